import pytest

from dflash_app.training.compiling import compiled_if_possible


def double(number):
    return 2 * number


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets whether a compiler and Python's headers are there."""

    def set_up(compiler, headers):
        monkeypatch.setattr("shutil.which", lambda name: compiler if name == "g++" else None)
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
        if headers:
            (tmp_path / "Python.h").touch()

    return set_up


@pytest.mark.parametrize(
    ("compiler", "headers", "named"),
    [
        (None, True, "a C++ compiler not found"),
        ("/usr/bin/g++", False, "headers"),
        (None, False, "a C++ compiler and Python's headers"),
    ],
)
def test_without_compiler_or_headers_the_function_is_used_as_it_is(
    machine, compiler, headers, named
):
    machine(compiler, headers)
    said = []
    assert compiled_if_possible(double, said.append) is double
    (line,) = said
    assert named in line


# Torch's own, when it imports its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_with_both_the_function_is_compiled_and_nothing_is_said(machine):
    machine("/usr/bin/g++", True)
    said = []
    compiled = compiled_if_possible(double, said.append)
    assert compiled is not double
    assert compiled.__wrapped__ is double
    assert said == []
