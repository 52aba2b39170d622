"""What was written for speed against what torch would do: values, gradients, and shares dropped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ckf.cf.nn.kernels import Dropout, PaddedEmbedding, SparseMatrix, attend, attend_once, rows_of, scores_and_l2, spmm


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_rows_and_their_gradient_are_those_of_an_embedding():
    table, ids = PaddedEmbedding(9, 4), torch.tensor([[3, 0, 3], [8, 1, 3]])
    naive = torch.nn.Embedding(9, 4, padding_idx=0)
    naive.weight.data.copy_(table.weight.data)
    grad = torch.randn(2, 3, 4)
    for embedding in (table, naive):
        embedding(ids).backward(grad)
    assert torch.equal(table(ids), naive(ids))
    torch.testing.assert_close(table.weight.grad, naive.weight.grad)
    assert (table.weight.grad[0] == 0).all(), "padding learns nothing"
    values = doubles(9, 4)
    assert torch.autograd.gradcheck(lambda v: rows_of(v, ids), (values,))


def test_a_large_table_has_sparse_gradients_unless_told_otherwise():
    assert PaddedEmbedding(100_001, 1).sparse
    assert not PaddedEmbedding(100_000, 1).sparse
    assert not PaddedEmbedding(100_001, 1, sparse=False).sparse


def test_a_sparse_product_and_its_gradient_are_those_of_the_dense_one():
    dense = torch.randn(5, 7) * (torch.rand(5, 7) > 0.5)
    dense[2] = 0.0  # a row without entries
    rows, columns = (x.numpy() for x in dense.nonzero(as_tuple=True))
    order = np.argsort(columns, kind="stable")
    cpu = torch.device("cpu")
    forth, back = SparseMatrix.of(rows, columns, 5, cpu), SparseMatrix.of(columns[order], rows[order], 7, cpu)
    weights = dense[rows, columns]
    values, grad = torch.randn(7, 3, requires_grad=True), torch.randn(5, 3)
    found = spmm(forth, back, values, (weights, weights[order]))
    torch.testing.assert_close(found, dense @ values)
    found.backward(grad)
    torch.testing.assert_close(values.grad, dense.T @ grad)


def test_scores_and_squares_and_their_gradient():
    users, items, user_bias, item_bias = parts = doubles(6, 4), doubles(6, 3, 4), doubles(6, 1), doubles(6, 3, 1)
    scores, squares = scores_and_l2(*parts)
    torch.testing.assert_close(scores, torch.einsum("nd,nkd->nk", users, items) + user_bias + item_bias[..., 0])
    of_users, of_items = (torch.cat(both, dim=-1).square().sum(-1) for both in ((users, user_bias), (items, item_bias)))
    torch.testing.assert_close(squares, of_users[:, None] + of_items)
    assert torch.autograd.gradcheck(scores_and_l2, parts)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("asked", [1, 5])
def test_attention_and_its_gradient_are_those_of_torch(heads, asked):
    queries, keys, values = doubles(3, asked, 4), doubles(3, 5, 4), doubles(3, 5, 4)
    unseen = torch.zeros(3, asked, 5, dtype=torch.float64)
    unseen[1, :, 3:] = float("-inf")
    split = (x.view(3, -1, heads, 4 // heads).transpose(1, 2) for x in (queries, keys, values))
    expected = F.scaled_dot_product_attention(*split, attn_mask=unseen[:, None]).transpose(1, 2).reshape(3, asked, 4)
    still = Dropout(0.3).eval()

    def read(q, k, v, dropout=still):
        return attend(q, torch.cat([k, v], dim=-1), unseen, heads, dropout)

    torch.testing.assert_close(read(queries, keys, values), expected)
    assert torch.autograd.gradcheck(read, (queries, keys, values))
    assert read(queries * 1e3, keys, values).isfinite().all(), "scores beyond what exp can hold"

    def dropped(q, k, v):
        torch.manual_seed(4)  # the same weights are dropped each time
        return read(q, k, v, Dropout(0.5).train())

    assert torch.autograd.gradcheck(dropped, (queries, keys, values))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_one_query_without_keys_and_values_is_one_with_them(heads, rate):
    queries, states, key_value = doubles(3, 1, 4), doubles(3, 5, 4), torch.nn.Linear(4, 8).double()
    unseen = torch.zeros(3, 1, 5, dtype=torch.float64)
    unseen[1, :, 3:] = float("-inf")
    dropout, grad = Dropout(rate).train(), torch.randn(3, 1, 4, dtype=torch.float64)
    parts = (queries, states, key_value.weight, key_value.bias)
    found = []
    for short in (True, False):
        torch.manual_seed(4)  # the same weights are dropped
        if short:
            read = attend_once(queries, states, key_value, unseen, heads, dropout)
        else:
            read = attend(queries, key_value(states), unseen, heads, dropout)
        found.append((read, *torch.autograd.grad(read, parts, grad)))
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(short, long)


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout, x = Dropout(0.3).train(), torch.ones(200_000)
    y = dropout(x)
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.01)
    assert (dropout(x) != y).any(), "another draw each time"
    assert dropout.eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    torch.manual_seed(7)
    one = dropout.train()(x)
    torch.manual_seed(7)
    assert torch.equal(dropout(x), one), "a function of torch's state"
