"""Settings are checked where they are made."""

import pytest

from embedders.tuning.config import TuningConfig


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"joint_epochs": 0}, "joint_epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"refit_epochs": -1}, "refit_epochs must be at least 0"),
        ({"max_trained_share": 1.5}, r"max_trained_share lies in \(0, 1\]"),
        ({"base": "mf"}, "base must be one of vbpr, bm3, lightgcn, got 'mf'"),
        ({"regime": "both"}, "regime must be one of dual, no_transfer, joint"),
        ({"method": "full"}, "method must be one of lora"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TuningConfig(**changed)  # type: ignore[arg-type]
