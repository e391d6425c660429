"""One call of a language-model reranker: its prompts are asked, some side by side, and a strategy makes the values.

Each prompt is a `PromptCall`: limits, retries, prices and breaker are those of every provider (`ApiCall`). An answer
that cannot be used is asked for once more; the strategy decides what a second one means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from rag_rerank.backends.api.call import ApiCall, ApiRequest, Send, Wait
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.limiter import CallPolicy
from rag_rerank.backends.api.llm.answers import Unusable
from rag_rerank.backends.api.llm.completion import Completion
from rag_rerank.backends.api.llm.judgment import Judgment, NoAnswer, NoLogprobs, Strategy
from rag_rerank.backends.api.llm.prompts import Prompt
from rag_rerank.errors import RequestRejected, RerankError
from rag_rerank.execution.calls import error_text
from rag_rerank.execution.clock import wait_for_any
from rag_rerank.execution.deadline import deadline_error, publish_partial_trace, run_in_thread, time_is_up
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Scale, Scores

__all__ = ["LlmCall", "LlmExchange", "PromptCall", "prompt_of", "reply_of"]

_LEAST_SHARE = 0.4
"""Share of our estimate below which the tokens of an answer are told: no tokenizer needs so few for prose."""


@dataclass(frozen=True, slots=True)
class LlmExchange(Exchange):
    """One prompt on its way to a model.

    Args:
        prompt: The prompt.
    """

    prompt: Prompt | None = field(default=None, repr=False)


def prompt_of(exchange: Exchange) -> Prompt:
    """Return the prompt of an exchange."""
    assert isinstance(exchange, LlmExchange) and exchange.prompt is not None
    return exchange.prompt


def reply_of(completion: Completion) -> Reply:
    """Return the reply that carries a completion."""
    return Reply(rows=completion, usage=completion.usage, model=completion.model)


def no_exchange(texts: Sequence[str], first: int) -> Exchange:
    """Stand for the maker of exchanges where requests are prompts, and not parts of a list."""
    raise AssertionError("a prompt has an exchange of its own")


class PromptCall(ApiCall):
    """One prompt, sent until it has a usable answer, or has had two answers that cannot be used.

    Args:
        policy: The limits, retries and prices.
        prompt: The prompt.
        exchange: Makes the exchange of a prompt.
        owner: The call that it is a part of.

    Attributes:
        answer: What the prompt's ``read`` returned, `NoAnswer`, or the error of a tolerant prompt.
        tokens_sent: Estimated tokens of the prompts whose answers say how many tokens were read.
    """

    def __init__(
        self, policy: CallPolicy, prompt: Prompt, exchange: Callable[[Prompt], LlmExchange], owner: LlmCall
    ) -> None:
        super().__init__(replace(policy, output_tokens=prompt.output_tokens), "", (), (), no_exchange)
        self._prompt = prompt
        self._exchange_of = exchange
        self._owner = owner
        self.answer: Any = None
        self.tokens_sent = 0

    def _requests(self) -> Generator[Wait | Send, Any, None]:
        prompts = (self._prompt, self._prompt.again)
        for prompt in prompts[: self._policy.retry.attempts]:
            if self._done and time_is_up():
                raise deadline_error(self._policy.label)
            request = self._current = ApiRequest(
                f"{self._policy.label}, {prompt.step}",
                range(0),
                self._exchange_of(prompt),
                [prompt.tokens],
                self._policy.retry.budget,
            )
            try:
                try:
                    reply = yield from self._attempts(request)
                finally:
                    self._settle(request)
            except RequestRejected as error:
                self._end(request.trace(error=error_text(error)))
                if not prompt.tolerant:
                    raise
                self.answer = error
                return
            except RerankError as error:
                self._end(request.trace(error=error_text(error)))
                raise
            self.models |= {reply.model: None} if reply.model else {}
            self.tokens_sent += prompt.tokens if reply.usage.tokens is not None else 0
            if getattr(reply.rows, "cut_off", False) and prompt.ask != "yes_no":
                self._note("an answer ends at a limit of length, and was read as far as it goes")
            try:
                self.answer = prompt.read(reply.rows)  # type: ignore[arg-type]
            except Unusable as problem:
                self.answer = NoAnswer(str(problem))
                unusable = request.exchange.bad_response(str(problem))
                self._end(request.trace(texts=len(prompt.positions), error=error_text(unusable)))
            else:
                self._end(request.trace(texts=len(prompt.positions)))
                return

    def _reserve(self, request: ApiRequest) -> float:
        return self._owner.reserve(self._policy, request)

    @property
    def exchange(self) -> LlmExchange:
        """The exchange of its prompt, for errors about the answer."""
        return self._exchange_of(self._prompt)

    @property
    def reserved(self) -> float:
        """Estimated dollars that are set aside for a request in flight."""
        request = self._current
        return (request.reserved or 0.0) if request is not None else 0.0

    @property
    def usage(self) -> Usage:
        """The cost of its requests that have ended."""
        return self._usage()

    @property
    def requests(self) -> tuple[Trace, ...]:
        """The traces of its requests, that of the running one included."""
        current = self._current
        return (*self._done, *([current.trace()] if current else []))

    @property
    def notes(self) -> tuple[str, ...]:
        """Its notes for the trace."""
        return tuple(self._notes)


class LlmCall(ApiCall):
    """The prompts of one call, and its values.

    Args:
        policy: The limits, retries and prices of the requests.
        texts: The texts of the call.
        strategy: Asks the prompts.
        exchange: Makes the exchange of a prompt.
        parallel: How many prompts are asked side by side at most.
        notes: Notes for the trace that are known before anything is sent.

    Attributes:
        judgment: What the strategy found out; ``None`` before the end.
    """

    def __init__(
        self,
        policy: CallPolicy,
        texts: Sequence[str],
        strategy: Strategy,
        exchange: Callable[[Prompt], LlmExchange],
        parallel: int,
        notes: Sequence[str] = (),
    ) -> None:
        self._prompts: list[PromptCall] = []
        super().__init__(policy, "", (), (), no_exchange, notes)
        self._count = len(texts)
        self._strategy = strategy
        self._exchange_of = exchange
        self._parallel = parallel
        self._planned = strategy.requests()
        self._reserving = Lock()
        self.judgment: Judgment | None = None

    def run(self, send: Callable[[Exchange, float], Reply]) -> None:
        """Ask all prompts from this thread, or from a few others where several may be asked side by side.

        Raises:
            BackendError: A request failed, or was refused before it was sent; with the trace of the call.
        """
        plan, answers = self._strategy.plan(), None
        try:
            while True:
                calls = self._calls(plan.send(answers))  # type: ignore[arg-type]
                self._run_side_by_side(calls, send)
                answers = [call.answer for call in calls]
        except StopIteration as end:
            judgment: Judgment = end.value
        except (RerankError, NoLogprobs) as failure:
            raise self._error(failure) from None
        self._finish(judgment)

    async def arun(self, send: Callable[[Exchange, float], Awaitable[Reply]]) -> None:
        """Do what `run` does without blocking the event loop."""
        plan, answers = self._strategy.plan(), None
        try:
            while True:
                calls = self._calls(plan.send(answers))  # type: ignore[arg-type]
                await self._arun_side_by_side(calls, send)
                answers = [call.answer for call in calls]
        except StopIteration as end:
            judgment: Judgment = end.value
        except (RerankError, NoLogprobs) as failure:
            raise self._error(failure) from None
        self._finish(judgment)

    def _calls(self, prompts: Sequence[Prompt]) -> list[PromptCall]:
        """Return the calls of some prompts; the trace has them from here on."""
        calls = [PromptCall(self._policy, prompt, self._exchange_of, self) for prompt in prompts]
        self._prompts += calls
        publish_partial_trace(self.trace)  # each of them has published its own
        return calls

    def _run_side_by_side(self, calls: Sequence[PromptCall], send: Callable[[Exchange, float], Reply]) -> None:
        waiting = deque(calls)

        def work() -> None:
            while waiting:
                try:
                    call = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    call.run(send)
                except BaseException:
                    waiting.clear()  # the whole call fails, so nothing more is sent
                    raise

        workers = min(self._parallel, len(calls))
        if workers <= 1:
            work()
            return
        futures = [run_in_thread(work) for _ in range(workers)]
        pending = list(futures)
        while pending:
            wait_for_any(pending)
            pending = [future for future in pending if not future.done()]
        for future in futures:
            future.result()

    async def _arun_side_by_side(
        self, calls: Sequence[PromptCall], send: Callable[[Exchange, float], Awaitable[Reply]]
    ) -> None:
        import asyncio

        waiting = deque(calls)

        async def work() -> None:
            while waiting:
                await waiting.popleft().arun(send)

        workers = min(self._parallel, len(calls))
        if workers <= 1:
            await work()
            return
        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            waiting.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def reserve(self, policy: CallPolicy, request: ApiRequest) -> float:
        """Set the estimated cost of a request aside; the ceilings count what the rest of the call may cost too."""
        with self._reserving:
            cost_so_far = sum((call.usage.cost or 0.0) + call.reserved for call in self._prompts)
            started = sum(bool(call.requests) for call in self._prompts)
            later = [request.tokens] * max(0, self._planned - started)
            request.reserved = policy.reserve(request.tokens, later, cost_so_far)
            return request.reserved

    def _finish(self, judgment: Judgment) -> None:
        self._note(*judgment.notes)
        if self._prompts and not judgment.answers:
            reasons = dict.fromkeys(call.answer.reason for call in self._prompts if isinstance(call.answer, NoAnswer))
            raise self._error(self._bad_response(f"{', '.join(reasons)}; so it was with every request"))
        self.judgment = judgment
        estimate, billed = sum(call.tokens_sent for call in self._prompts), self._usage().tokens
        if billed is not None and billed < _LEAST_SHARE * estimate:
            self._note(
                f"the endpoint read {billed:,} tokens where about {estimate:,} were sent, so it may have cut "
                "the prompts; give context, the tokens that it reads"
            )
        for call in self._prompts:
            self.models |= call.models

    def _bad_response(self, problem: str) -> RerankError:
        return self._prompts[-1].exchange.bad_response(problem)

    def _error(self, failure: RerankError | NoLogprobs) -> RerankError:
        """Return the error that leaves the call, with its trace."""
        error = failure
        if isinstance(error, NoLogprobs):
            error = self._bad_response("it has no token log-probabilities; give score_by='grade'")
        error.trace = self.trace()
        return error

    def scores(self, scale: Scale) -> Scores:
        """Return the values of the strategy, with the traces of all requests."""
        assert self.judgment is not None
        return Scores(
            self.judgment.values,
            scale,
            replace(self._usage(), texts=self._count),
            requests=self._requests_so_far(),
            notes=self._all_notes(),
            unscored=self.judgment.unscored,
            degraded=tuple(self.judgment.degraded),
        )

    def trace(self) -> Trace:
        """Return the trace node of this call, as of now."""
        requests = self._requests_so_far()
        return Trace(
            step=self._policy.label,
            usage=Usage.total(request.usage for request in requests),
            attempts=sum(request.attempts for request in requests),
            failures=tuple(failure for request in requests for failure in request.failures),
            notes=self._all_notes(),
            children=requests if len(requests) > 1 else (),
        )

    def _requests_so_far(self) -> tuple[Trace, ...]:
        return tuple(request for call in list(self._prompts) for request in call.requests)

    def _all_notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._notes, *(note for call in list(self._prompts) for note in call.notes))))

    def _usage(self) -> Usage:
        return Usage.total(call.usage for call in self._prompts)
