import pytest


@pytest.mark.compile
def test_placeholder() -> None:
    """Lets ``pytest -m compile`` import the integration tests without running them."""
