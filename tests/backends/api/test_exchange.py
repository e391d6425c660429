"""Reading answers: the parts of messages that are shown, and how long a provider asks to wait."""

from __future__ import annotations

import pytest

from rag_rerank import BackendError, BackendTimeout, BackendUnavailable, BadResponse, RateLimited
from rag_rerank.backends.api.exchange import Exchange

KEY = "kEy-7f3aQz0Lw9"


def exchange(query: str = "warm dragon", texts: tuple[str, ...] = ("Kept in a dry terrarium.",)) -> Exchange:
    return Exchange("cohere", "m", query, texts, key=KEY)


def retry_after(**headers: str) -> float | None:
    error = exchange().http_error(429, {name.replace("_", "-"): value for name, value in headers.items()}, None)
    assert isinstance(error, RateLimited)
    return error.retry_after


def test_the_wait_is_read_in_seconds_and_milliseconds() -> None:
    assert retry_after(Retry_After="2") == 2
    assert retry_after(retry_after=" 7.5 ") == 7.5
    assert retry_after(retry_after="0") == 0
    assert retry_after(retry_after="-3") == 0
    assert retry_after(Retry_After_Ms="1500", retry_after="9") == 1.5


def test_the_wait_is_read_from_a_date_against_the_servers_own_clock() -> None:
    until = "Wed, 21 Oct 2015 07:28:20 GMT"
    assert retry_after(retry_after=until, date="Wed, 21 Oct 2015 07:28:00 GMT") == 20
    assert retry_after(retry_after=until, date="Wed, 21 Oct 2015 07:29:00 GMT") == 0
    assert retry_after(retry_after=until) == 0


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "Wed, 99 Oct 2015", "Fri, 31 Dec 99999 00:00:00 GMT"])
def test_a_wait_that_cannot_be_read_is_none(value: str) -> None:
    assert retry_after(retry_after=value) is None


def test_no_wait_is_none() -> None:
    assert retry_after() is None


@pytest.mark.parametrize(
    "body",
    [
        {"message": "too many calls"},
        {"detail": "too many calls"},
        {"error": "too many calls"},
        {"error": {"code": 7, "message": "too many calls"}},
        {"detail": [{"loc": ["body"], "msg": "too many calls", "input": "Kept in a dry terrarium."}]},
        "too many calls",
        "  too\n many\tcalls ",
    ],
)
def test_the_providers_message_is_read(body: object) -> None:
    assert "(too many calls)" in str(exchange().http_error(429, {}, body))


@pytest.mark.parametrize(
    "body", [None, "", "<html>x</html>", {}, {"message": None}, {"message": 7}, [], 5, [[[[["x"]]]]]]
)
def test_an_answer_without_a_message_gives_its_status(body: object) -> None:
    assert str(exchange().http_error(429, {}, body)) == "cohere:m answered 429"


@pytest.mark.parametrize(
    "words",
    [
        f"invalid api key {KEY}",
        f"header 'Authorization: Bearer {KEY}'",
        "header Bearer abc.def-ghi",
        "token 0123456789abcdefABCDEF0123456789 is unknown",
        "x" * 195 + KEY,
    ],
)
def test_keys_are_masked(words: str) -> None:
    text = exchange().redact(words)
    assert "***" in text
    for secret in (KEY, "abc.def", "0123456789abcdef"):
        assert secret not in text


@pytest.mark.parametrize(
    "words",
    [
        "cannot read 'Kept in a dry terrarium.'",
        "cannot read 'Kept   in\na dry terra…",
        "no such thing: warm dragon",
        "… in a dry terrarium",
    ],
)
def test_a_message_that_repeats_the_request_is_left_out(words: str) -> None:
    text = exchange().redact(words)
    assert text == "its message repeats the request and is left out"


def test_other_messages_are_kept_and_cut() -> None:
    assert exchange().redact("no model 'rerank-multilingual-v3.0'") == "no model 'rerank-multilingual-v3.0'"
    assert exchange(texts=("a", "is")).redact("a model is missing") == "a model is missing"
    assert len(exchange().redact("word " * 1000)) == 200


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), BackendTimeout),
        (ConnectionResetError("peer"), BackendUnavailable),
        (AttributeError("data"), BadResponse),
        (IndexError("list index out of range"), BadResponse),
        (TypeError("not a mapping"), BadResponse),
        (ValueError("Kept in a dry terrarium."), BadResponse),
        (RuntimeError("boom"), BackendError),
    ],
)
def test_any_error_of_an_sdk_becomes_ours(error: Exception, kind: type[BackendError]) -> None:
    def send() -> None:
        raise error

    with pytest.raises(BackendError) as caught:
        exchange().call_sdk(send, Exchange.sdk_error)
    assert type(caught.value) is kind
    assert (caught.value.backend, caught.value.model) == ("cohere", "m")
    assert caught.value.__context__ is None
    assert "terrarium" not in str(caught.value)


def test_an_error_of_ours_passes() -> None:
    own = RateLimited("own")

    def send() -> None:
        raise own

    with pytest.raises(RateLimited) as caught:
        exchange().call_sdk(send, Exchange.sdk_error)
    assert caught.value is own


def test_scores_come_in_the_order_of_the_texts() -> None:
    request = exchange(texts=("a", "b", "c"))
    assert request.scores([(2, 0.5), (0, 1), (1, 0)]) == [1.0, 0.0, 0.5]
    assert [type(score) for score in request.scores([(2, 0.5), (0, 1), (1, 0)])] == [float] * 3


def test_rounding_beside_the_bounds_is_taken_as_it_is() -> None:
    assert exchange().scores([(0, 1 + 5e-7)]) == [1 + 5e-7]
    assert exchange().scores([(0, -5e-7)]) == [-5e-7]
    with pytest.raises(BadResponse, match=r"outside 0\.\.1"):
        exchange().scores([(0, 1.00001)])


def test_messages_name_the_position_among_all_texts_of_the_call() -> None:
    part = Exchange("cohere", "m", "q", ["a", "b"], first=1000)
    with pytest.raises(BadResponse, match="the first is text 1001"):
        part.scores([(0, 0.5)])
