"""The README's Python examples run as they stand, in order, in one session."""

import re
from pathlib import Path

import pytest

import snnumba as snn

pytestmark = pytest.mark.compiled

README = Path(__file__).parents[1] / "README.md"


def test_the_python_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    history = names["history"]
    assert isinstance(history, snn.training.History)
    assert history.validation_accuracy[-1] > 0.9
