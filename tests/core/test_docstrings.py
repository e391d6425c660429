"""What the JSON Schema and the reference read from docstrings."""

from dataclasses import dataclass

from rag_rerank.config.docstrings import describe, first_sentence, meanings_of, to_markdown


@dataclass
class Base:
    """A base.

    Args:
        kept: What the base says.
        own: What the base says,
            in two lines.
    """

    kept: int
    own: int


@dataclass
class Derived(Base):
    """The first paragraph names ``code`` and
    goes on.

    The second one ends in an example::

        x = 1

            y = 2

    After it.

    Args:
        own: What the class says. It has a list:

            - ``"a"``: The first word
              of two.
            - ``"b"``: The ``last`` one.
        more: Another one: with a colon.

    Raises:
        ValueError: Not a key.
    """

    more: int


@dataclass
class Silent(Derived):
    silent: int


def test_sections_keys_and_inherited_keys_are_read() -> None:
    description = describe(Derived)
    assert description.summary == "The first paragraph names `code` and goes on."
    assert description.text.split("\n\n", 1)[1] == (
        "The second one ends in an example:\n\n```\nx = 1\n\n    y = 2\n```\n\nAfter it."
    )
    assert description.keys == {
        "kept": "What the base says.",
        "own": "What the class says. It has a list:\n\n- `a`: The first word of two.\n- `b`: The `last` one.",
        "more": "Another one: with a colon.",
    }


def test_a_class_without_a_docstring_has_the_keys_of_its_bases_only() -> None:
    assert describe(Silent).text == ""
    assert describe(Silent).keys == describe(Derived).keys


def test_words_of_a_list_have_meanings() -> None:
    assert meanings_of(describe(Derived).keys["own"]) == {"a": "The first word of two.", "b": "The `last` one."}
    assert meanings_of("No list: `a`: b.") == {}


def test_the_first_sentence_ends_at_its_full_stop() -> None:
    assert first_sentence("It is v1.5 of it, e.g. this. And more.\n\nNext.") == "It is v1.5 of it, e.g. this."
    assert first_sentence("no full stop") == "no full stop"


def test_code_over_two_lines_stays_code() -> None:
    assert to_markdown("See ``a\nb`` and `Name`.\nEnd.") == "See `a b` and `Name`. End."
