"""Random models of two families."""

import pytest

from tests.helpers.models import tiny_network


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def network(request):
    return tiny_network(request.param)
