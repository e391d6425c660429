"""The dialects of clouds: a request also names a project or an account, and a token may be valid for an hour only."""

from __future__ import annotations

from collections.abc import Mapping

from rag_rerank.backends.api.dialects.dialect import Dialect, Refusal
from rag_rerank.errors import AuthenticationError

__all__ = ["CLOUDS"]

CLOUDS: Mapping[str, Dialect] = {
    # The answer is in an envelope, with errors beside it. [?]: the envelope, and that scores are within 0..1.
    "cloudflare": Dialect(
        title="Cloudflare Workers AI",
        path="/accounts/{project}/ai/run/{model}",
        texts="contexts",
        text="text",
        project_variables=("CLOUDFLARE_ACCOUNT_ID",),
        rows="result.response",
        index="id",
        score="score",
        error="errors",
        default_url="https://api.cloudflare.com/client/v4",
        hosts=("api.cloudflare.com",),
        keys=("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
        refusals=(Refusal(status=200, words="authentication", kind=AuthenticationError),),
    ),
    # Scores are rounded to two decimals, so texts tie. A record without a score has none here; a title is not sent. A
    # request is billed by hundreds of records, whatever their length. The variable for the token is that of Google's
    # Terraform provider [?].
    "google": Dialect(
        title="Google's Ranking API",
        path="/v1/projects/{project}/locations/global/rankingConfigs/default_ranking_config:rank",
        headers={"x-goog-user-project": "{project}"},
        texts="records",
        text="content",
        id="id",
        project_variables=("GOOGLE_CLOUD_PROJECT",),
        options={"ignoreRecordDetailsInResponse": True},
        rows="records",
        index="id",
        score="score",
        decimals=2,
        most_texts=200,
        unit_texts=100,
        default_url="https://discoveryengine.googleapis.com",
        hosts=("discoveryengine.googleapis.com",),
        keys=("GOOGLE_OAUTH_ACCESS_TOKEN",),
    ),
    # The scores of cross-encoders are logits, by an example of IBM's Java SDK. The token is one of IBM's IAM, made from
    # an API key, and valid for an hour. [?]: the most texts in a request, what is done with long texts.
    "watsonx": Dialect(
        title="watsonx.ai",
        path="/ml/v1/text/rerank?version=2024-03-13",
        texts="inputs",
        text="text",
        model_field="model_id",
        project_field="project_id",
        project_variables=("WATSONX_PROJECT_ID",),
        score="score",
        scale="sigmoid",
        tokens=("input_token_count",),
        example_url="https://us-south.ml.cloud.ibm.com",
        hosts=("ml.cloud.ibm.com",),
        keys=("WATSONX_TOKEN",),
    ),
}
"""Dialect -> its row, for clouds."""
