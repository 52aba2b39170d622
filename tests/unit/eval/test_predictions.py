"""The source's ids in a predictions file, also where a row is of an id that the dataset does not have."""

from __future__ import annotations

import pandas as pd
import pytest

from ckf.eval.predictions import with_raw_ids

NAMES = {
    "numbers in another order": ["30", "10", "20"],
    "text": ["U0", "u0", "é"],
    "zeros in front": ["007", "07", "7"],
}


@pytest.mark.parametrize("case", NAMES)
def test_raw_ids_are_text_next_to_the_internal_ones(tmp_path, case):
    for kind in ("user", "item"):
        pd.DataFrame({kind: [1, 2, 3], "raw_id": NAMES[case]}).to_parquet(tmp_path / f"{kind}s.parquet")
    rows = pd.DataFrame({"source": "model", "user": [3, 1, 9, 0], "item": [1, 1, 2, 3], "score": 0.5})
    found = with_raw_ids(rows, tmp_path)
    first, second, third = NAMES[case]
    assert list(found) == ["source", "user", "raw_user", "item", "raw_item", "score"]
    assert found["raw_user"].tolist() == [third, first, "", ""]
    assert found["raw_item"].tolist() == [first, first, second, third]
    assert list(with_raw_ids(found, tmp_path)) == list(found), "rows of another run have them already"
    assert list(rows) == ["source", "user", "item", "score"]
