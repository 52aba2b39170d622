"""The networks against naive arithmetic: propagation, causality, masked attention, the factors' gradient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ckf.cf.data import CFBatch, CFData, Interactions
from ckf.cf.models.din import DINModel
from ckf.cf.models.lightgcn import LightGCNModel, LightGCNNet, UserItemGraph
from ckf.cf.models.mf import MFModel
from ckf.cf.models.sasrec import CausalEncoder, SASRecModel
from ckf.config.schema import DINConfig, LightGCNConfig, MFConfig, SASRecConfig

USERS, ITEMS, WIDTH = 8, 12, 5


def some_rows(n: int, seed: int) -> Interactions:
    draw = np.random.default_rng(seed)
    cells = draw.permutation(USERS * ITEMS)[:n]
    history = draw.integers(1, ITEMS + 1, (n, WIDTH)).astype(np.int32)
    history[np.arange(WIDTH) < draw.integers(0, WIDTH + 1, n)[:, None]] = 0
    return Interactions(
        user=cells // ITEMS + 1,
        item=cells % ITEMS + 1,
        click=np.arange(n) % 2.0,
        rating=np.full(n, np.nan),
        timestamp=np.arange(n) * 90_000,
        history=history,
    )


DATA = CFData(
    some_rows(50, 0), some_rows(20, 1), USERS, ITEMS, ["", *[f"Word{i % 3} Common (19{60 + i})" for i in range(ITEMS)]]
)
SHORT = {"dim": 4, "epochs": 3, "batch_size": 16, "folds": 3}


# --- LightGCN


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_propagation_is_the_dense_matrix_product(layers):
    model = LightGCNModel(DATA, LightGCNConfig("lightgcn", layers=layers, title_features=False, **SHORT), 0)
    liked = np.zeros((USERS + 1, ITEMS + 1))
    train = DATA.train
    liked[train.user[train.click > 0], train.item[train.click > 0]] = 1
    adjacency = np.block([[np.zeros((USERS + 1,) * 2), liked], [liked.T, np.zeros((ITEMS + 1,) * 2)]])
    degree = np.maximum(adjacency.sum(1), 1) ** -0.5
    adjacency = degree[:, None] * adjacency * degree[None, :]
    vectors = np.concatenate([model.net.users.weight.numpy(), model.net.items.ids.weight.numpy()])
    expected = sum(np.linalg.matrix_power(adjacency, k) @ vectors for k in range(layers + 1)) / (layers + 1)
    found = torch.cat(model.net.propagated()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert layers == 0 or not np.allclose(found, vectors)


def test_a_training_row_does_not_meet_its_own_edge():
    """The graph of a batch has no like of the batch's fold, and all the others."""
    model = LightGCNModel(DATA, LightGCNConfig("lightgcn", **SHORT), 0)
    net, train = model.net, DATA.train
    assert isinstance(net, LightGCNNet)
    for fold in range(3):
        mine = model.fold == fold
        assert mine.any()
        with net.left_out(fold):
            assert net.without == fold
        edges, _ = dense(net.graph, fold)
        assert not edges[train.user[mine], train.item[mine]].any()
        assert ((edges[train.user[~mine], train.item[~mine]] > 0) == (train.click[~mine] > 0)).all()
        rest = train.rows(np.flatnonzero(~mine))
        alone, _ = dense(UserItemGraph(dataclasses.replace(DATA, train=rest), model.fold[~mine], 3, net_device()), None)
        np.testing.assert_allclose(edges, alone, rtol=1e-6)  # degrees are those of what is left
    assert net.without is None, "outside, the whole graph"
    for rows in model.batches()(np.random.default_rng(0)):
        assert len(np.unique(model.fold[rows])) == 1


def test_an_id_without_likes_is_no_division_by_zero():
    none = dataclasses.replace(DATA, train=DATA.train.rows(np.flatnonzero(DATA.train.click <= 0)))
    forth, back = dense(UserItemGraph(none, np.zeros(len(none.train.user)), 1, net_device()), None)
    assert (forth == 0).all()
    assert (back == 0).all()


def test_both_directions_of_the_graph_are_one_matrix():
    model = LightGCNModel(DATA, LightGCNConfig("lightgcn", **SHORT), 0)
    for fold in (None, 0, 1, 2):
        forth, back = dense(model.net.graph, fold)
        assert (forth == back.T).all()


def dense(graph: UserItemGraph, without: int | None) -> tuple[np.ndarray, np.ndarray]:
    by_user, by_item = graph.weights(without)
    eyes = torch.eye(ITEMS + 1), torch.eye(USERS + 1)
    return graph.to_users.times(eyes[0], by_user).numpy(), graph.to_items.times(eyes[1], by_item).numpy()


def net_device() -> torch.device:
    return torch.device("cpu")


# --- SASRec


@pytest.fixture
def encoder() -> CausalEncoder:
    torch.manual_seed(0)
    return CausalEncoder(dim=8, history_items=WIDTH, blocks=2, heads=2, dropout=0.0).eval()


def after_start(items: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(items, (0, 0, 1, 0))


def test_a_later_item_cannot_change_an_earlier_state(encoder):
    items, there = torch.randn(3, WIDTH, 8), torch.ones(3, WIDTH, dtype=torch.bool)
    before = encoder(after_start(items), there)
    for place in range(WIDTH):
        changed = items.clone()
        changed[:, place] += torch.randn(3, 8)
        after = encoder(after_start(changed), there)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert (after[:, place + 1 :] != before[:, place + 1 :]).any(dim=2).all(), "later states do see it"


def test_padding_changes_no_state(encoder):
    items, there = torch.randn(2, WIDTH, 8), torch.ones(2, WIDTH, dtype=torch.bool)
    there[:, :2] = False
    other = items.clone()
    other[:, :2] = 99.0
    for a, b in (
        (encoder(after_start(items), there)[:, 3:], encoder(after_start(other), there)[:, 3:]),
        (encoder.last(after_start(items), there), encoder.last(after_start(other), there)),
    ):
        assert torch.equal(a, b)
    empty = torch.zeros(2, WIDTH, dtype=torch.bool)
    state = encoder.last(after_start(torch.zeros_like(items)), empty)  # as the table's padding is
    assert torch.isfinite(state).all()
    assert torch.equal(state[0], state[1]), "an empty history has one state, the learned start"


def test_the_last_state_alone_is_the_last_of_all(encoder):
    items, there = torch.randn(4, WIDTH, 8), torch.rand(4, WIDTH) > 0.3
    torch.testing.assert_close(encoder.last(after_start(items), there), encoder(after_start(items), there)[:, -1])


def test_attention_as_a_loop_would_do_it():
    torch.manual_seed(1)
    encoder = CausalEncoder(dim=4, history_items=3, blocks=1, heads=1, dropout=0.0).eval()
    items, block = torch.randn(1, 3, 4), encoder.blocks[0]
    x = torch.cat([encoder.start[None], items[0]]) + encoder.positions
    normed = block.before(x)
    q = block.query(normed)
    k, v = block.key_value(normed).chunk(2, dim=1)
    for t in range(4):
        weight = torch.softmax(torch.stack([q[t] @ k[s] / 2.0 for s in range(t + 1)]), 0)
        y = x[t] + block.out(sum(weight[s] * v[s] for s in range(t + 1)))
        y = encoder.norm(y + block.forward_net(block.between(y)))
        torch.testing.assert_close(encoder(after_start(items), torch.ones(1, 3, dtype=torch.bool))[0, t], y)


def test_a_score_reads_the_history_of_its_own_row_alone():
    model = SASRecModel(DATA, SASRecConfig("sasrec", history_items=WIDTH, **SHORT), 0)
    batch = DATA.val.batch
    before = model.logit(batch)
    changed = batch.history.copy()
    changed[1:] = 3
    after = model.logit(CFBatch(batch.user, batch.item, changed))
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert (after[1:] != before[1:]).any()


# --- DIN


@pytest.fixture(scope="module")
def din() -> DINModel:
    return DINModel(DATA, DINConfig("din", history_items=WIDTH, **SHORT), 0)


def test_din_attention_masks_padding(din):
    candidate = din.net.items(torch.tensor([[4]]))
    short = din.net.pooled(candidate, torch.tensor([[7, 2]]))
    padded = din.net.pooled(candidate, torch.tensor([[0, 0, 0, 7, 2]]))
    torch.testing.assert_close(short, padded)
    assert (din.net.pooled(candidate, torch.tensor([[0, 0]])) == 0).all()
    din.net.items.ids.weight[0] = 5.0  # were padding attended to, this would show
    torch.testing.assert_close(din.net.pooled(candidate, torch.tensor([[0, 0, 0, 7, 2]])), padded)
    din.net.items.ids.weight[0] = 0.0


def test_din_pools_as_a_loop_would_do_it(din):
    items = din.net.items
    q, history = items(torch.tensor([4])), [7, 2, 9]
    vectors = [items(torch.tensor([item]))[0] for item in history]
    units = [din.net.activation(torch.cat([h, q[0], h - q[0], h * q[0]])) for h in vectors]
    weights = torch.softmax(torch.cat(units), 0)
    expected = sum(w * h for w, h in zip(weights, vectors, strict=True))
    torch.testing.assert_close(din.net.pooled(q[None], torch.tensor([history]))[0, 0], expected)


# --- MF


def test_the_gradient_of_mf_by_hand():
    """d loss / d p_u of cross-entropy plus penalty, for one row: (sigmoid(s) - y) q_v + 2 l2 p_u."""
    model = MFModel(DATA, MFConfig("mf", title_features=False, embedding_l2=0.3, **SHORT), 0)
    model.net.requires_grad_(True)
    model._columns = model._training_columns()
    train = DATA.train
    row = 7
    model.loss(torch.tensor([row])).backward()
    p = model.net.users.weight.detach().numpy()[train.user[row]]
    q = model.net.items.ids.weight.detach().numpy()[train.item[row]]
    moved = float((model.net.user_bias.weight[train.user[row]] + model.net.item_bias.weight[train.item[row]]).detach())
    score = model.additive.train_logit[row] + p @ q + moved
    error = 1 / (1 + np.exp(-score)) - train.click[row]
    gradient = model.net.users.weight.grad.numpy()[train.user[row]]
    np.testing.assert_allclose(gradient, error * q + 2 * 0.3 * p, atol=1e-6)


def test_bpr_compares_a_liked_row_with_one_not_liked_of_the_same_user():
    model = MFModel(DATA, MFConfig("mf", loss="bpr", **SHORT), 0)
    pairs, train = model._pairs, DATA.train
    disliked = {(u, v) for u, v, c in zip(train.user, train.item, train.click, strict=True) if not c}
    liked = {(u, v) for u, v, c in zip(train.user, train.item, train.click, strict=True) if c}
    everyone = {u for u, _ in disliked}
    rows = pairs.liked
    assert (train.click[rows] > 0).all()
    items, offset = pairs.draw(rows, model.additive)
    for user, item in zip(train.user[rows], items, strict=True):
        assert (user, item) in disliked or (user not in everyone and (user, item) not in liked)
    assert np.isfinite(offset).all()


def test_where_nothing_is_disliked_bpr_draws_what_the_user_has_not_liked():
    liked = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, click=np.ones(50)))
    model = LightGCNModel(liked, LightGCNConfig("lightgcn", loss="bpr", **SHORT), 0)
    pairs = model._pairs
    known = set(zip(DATA.train.user.tolist(), DATA.train.item.tolist(), strict=True))
    for _ in range(20):
        items, offset = pairs.draw(pairs.liked, model.additive)
        assert known.isdisjoint(zip(DATA.train.user.tolist(), items.tolist(), strict=True))
        np.testing.assert_allclose(
            offset, model.additive.mean + model.additive.user[DATA.train.user] + model.additive.item[items]
        )
    for rows in model.batches()(np.random.default_rng(0)):
        assert len(np.unique(model.fold[rows])) == 1, "the graph leaves one fold out"


def test_content_gives_a_cold_item_a_vector_and_nothing_without_it():
    cold = int(np.setdiff1d(np.arange(1, ITEMS + 1), DATA.train.item[DATA.train.item != 3])[0])
    train = DATA.train.rows(np.flatnonzero(DATA.train.item != cold))
    data = dataclasses.replace(DATA, train=train)
    with_content, without = (MFModel(data, MFConfig("mf", title_features=c, **SHORT), 0).net for c in (True, False))
    assert (without.item_side(torch.tensor([cold])) == 0).all()
    assert (with_content.item_side(torch.tensor([cold]))[0, :-1] != 0).all()
