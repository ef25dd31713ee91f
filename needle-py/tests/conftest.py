import pytest


def pytest_addoption(parser):
    parser.addoption("--model", required=True, help="directory of an artifact")


@pytest.fixture(scope="session")
def model_dir(request):
    return request.config.getoption("--model")
