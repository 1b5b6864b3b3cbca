"""attnbench eval on tensors written by NumPy, against attention in NumPy float64, and in PyTorch where it is installed."""

import numpy as np
import pytest

from program import attnbench, usage_error

VARIANTS = ["reference/cpu", "oracle"]
TOLERANCE = {"oracle": 1e-12, "reference/cpu": 2e-5}


# ---- the comparison: softmax(tau q k^T + bias) v in float64, [batch, seq, head, width] as in the files ----


def repeat_heads(x, heads):
    return np.repeat(x, heads // x.shape[2], axis=2)


def attention(q, k, v, allowed=True, bias=0.0, scale=None):
    """O, LSE and P; `allowed` and `bias` broadcast over [batch, head, query, key]."""
    k, v = repeat_heads(k, q.shape[2]), repeat_heads(v, q.shape[2])
    scores = (scale or q.shape[3] ** -0.5) * np.einsum("bihd,bjhd->bhij", q, k) + bias
    scores = np.where(allowed, scores, -np.inf)
    maximum = scores.max(axis=-1, keepdims=True, initial=-1e300)
    weights = np.exp(scores - maximum)
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(total > 0, weights / total, 0)
        lse = np.where(total > 0, maximum + np.log(total), -np.inf)[..., 0]
    return np.einsum("bhij,bjhd->bihd", p, v), lse, p


def gradients(q, k, v, d_o, p, scale=None):
    """dQ, dK, dV and dS by the formulas of the softmax; grouped heads are summed."""
    scale = scale or q.shape[3] ** -0.5
    all_k, all_v = repeat_heads(k, q.shape[2]), repeat_heads(v, q.shape[2])
    d_p = np.einsum("bihd,bjhd->bhij", d_o, all_v)
    d_s = p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))
    d_q = scale * np.einsum("bhij,bjhd->bihd", d_s, all_k)
    d_k = scale * np.einsum("bhij,bihd->bjhd", d_s, q)
    d_v = np.einsum("bhij,bihd->bjhd", p, d_o)

    def grouped(x):
        b, n, _, d = x.shape
        return x.reshape(b, n, k.shape[2], -1, d).sum(axis=3)

    return d_q, grouped(d_k), grouped(d_v), d_s


def distances(q, k):
    """Key minus query position, the last query standing at the last key."""
    n, m = q.shape[1], k.shape[1]
    return np.arange(m)[None, :] - (np.arange(n)[:, None] + m - n)


def tensors(b=2, hq=4, hk=2, nq=5, nk=7, d=8, dv=6, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(b, nq, hq, d)) * 2
    return q, rng.normal(size=(b, nk, hk, d)), rng.normal(size=(b, nk, hk, dv))


# ---- running the program ----


def evaluate(folder, variant, inputs, outputs, problem=None, tables=(), table_gradients=()):
    """Writes `inputs` (float32, or float64 for the oracle), runs, returns the files asked for."""
    dtype = np.float64 if variant == "oracle" else np.float32
    command = ["eval", "--variant", variant, "--threads", "1"]
    if problem:
        command += ["--problem", problem]
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array.astype(dtype))
        command += [f"--{name}", folder / f"{name}.npy"]
    for name, array in dict(tables).items():
        np.save(folder / f"{name}.npy", array.astype(dtype))
        command += ["--table", f"{name}={folder / name}.npy"]
    written = {name: folder / f"out_{name}.npy" for name in [*outputs, *table_gradients]}
    for name in outputs:
        command += [f"--{name}", written[name]]
    for name in table_gradients:
        command += ["--d-table", f"{name}={written[name]}"]
    attnbench(*command)
    results = [np.load(path) for path in written.values()]
    assert all(array.dtype == dtype for array in results)
    return results


def rounded(variant, *arrays):
    """What the variant sees: float32 files hold rounded numbers."""
    return arrays if variant == "oracle" else [a.astype(np.float32).astype(np.float64) for a in arrays]


def close(found, expected, variant):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[variant], atol=TOLERANCE[variant])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mask", ["none", "causal", "window:2:1", "padding:3/7", "causal+window:1:*", "document:3/1",
                                  "causal+document:2/3"])
def test_masks_forward_and_backward(tmp_path, variant, mask):
    queries = 7 if "document" in mask else 5
    q, k, v = rounded(variant, *tensors(nq=queries))
    (d_o,) = rounded(variant, np.random.default_rng(1).normal(size=(2, queries, 4, 6)))
    distance = distances(q, k)

    def same_document(*documents):
        return np.equal.outer(documents, documents)

    allowed = {
        "none": np.ones_like(distance, bool),
        "causal": distance <= 0,
        "window:2:1": (distance >= -2) & (distance <= 1),
        "padding:3/7": (np.arange(7) < np.array([3, 7])[:, None])[:, None, None, :],
        "causal+window:1:*": (distance <= 0) & (distance >= -1),
        "document:3/1": lambda: same_document(0, 0, 0, 1, 2, 2, 2),
        "causal+document:2/3": lambda: same_document(0, 0, 1, 1, 1, 2, 2) & (distance <= 0),
    }[mask]
    allowed = allowed() if callable(allowed) else allowed
    o, lse, p = attention(q, k, v, allowed)
    d_q, d_k, d_v, _ = gradients(q, k, v, d_o, p)
    found = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v}, ["out", "lse"], f"mask={mask}")
    for f, e in zip(found, (o, lse)):
        close(f, e, variant)
    found = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v, "do": d_o}, ["out", "lse", "dq", "dk", "dv"],
                     f"mask={mask}")
    for f, e in zip(found, (o, lse, d_q, d_k, d_v)):
        close(f, e, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_without_keys(tmp_path, variant):
    q, k, v = rounded(variant, *tensors(nq=7, nk=3))
    allowed = (distances(q, k) <= 0) & (np.arange(3) < 2)
    o, lse, _ = attention(q, k, v, allowed)
    k[:, 2], v[:, 2] = np.nan, np.inf  # masked everywhere: nothing of it may reach a result
    found_o, found_lse = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v}, ["out", "lse"],
                                  "mask=causal+padding:2")
    assert np.all(found_o[:, :4] == 0) and np.all(np.isneginf(found_lse[:, :, :4]))
    close(found_o, o, variant)
    close(found_lse[:, :, 4:], lse[:, :, 4:], variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scale_and_softcap(tmp_path, variant):
    q, k, v = rounded(variant, *tensors())
    (o,) = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v}, ["out"], "scale=0.5")
    close(o, attention(q, k, v, scale=0.5)[0], variant)
    # The cap wraps the scaled scores: give the comparison the capped scores as a bias on scores of nought.
    capped = 3 * np.tanh(np.einsum("bihd,bjhd->bhij", q, repeat_heads(k, 4)) * 0.5 / 3)
    (o,) = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v}, ["out"], "scale=0.5,softcap=3")
    close(o, attention(0 * q, k, v, bias=capped)[0], variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_alibi(tmp_path, variant):
    q, k, v = rounded(variant, *tensors())
    slopes = 2.0 ** (-8 * (np.arange(4) + 1) / 4)
    bias = -slopes[None, :, None, None] * np.abs(distances(q, k))
    o, lse, _ = attention(q, k, v, bias=bias)
    for f, e in zip(evaluate(tmp_path, variant, {"q": q, "k": k, "v": v}, ["out", "lse"], "pos=alibi"), (o, lse)):
        close(f, e, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shaw_tables_and_their_gradients(tmp_path, variant):
    q, k, v = rounded(variant, *tensors())
    rng = np.random.default_rng(2)
    keys, values, d_o = rounded(variant, rng.normal(size=(5, 8)), rng.normal(size=(5, 6)), rng.normal(size=(2, 5, 4, 6)))
    index = np.clip(distances(q, k), -2, 2) + 2
    one_hot = np.eye(5)[index]  # [query, key, table row]
    tau = 8**-0.5
    bias = tau * np.einsum("bihd,ijd->bhij", q, keys[index])
    o, lse, p = attention(q, k, v, bias=bias)
    o = o + np.einsum("bhij,ijd->bihd", p, values[index])
    d_p = np.einsum("bihd,bjhd->bhij", d_o, repeat_heads(v, 4)) + np.einsum("bihd,ijd->bhij", d_o, values[index])
    d_s = p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))
    d_keys = tau * np.einsum("bhij,bihd,ijr->rd", d_s, q, one_hot)
    d_values = np.einsum("bhij,bihd,ijr->rd", p, d_o, one_hot)
    d_q = tau * (np.einsum("bhij,bjhd->bihd", d_s, repeat_heads(k, 4)) + np.einsum("bhij,ijd->bihd", d_s, keys[index]))
    found = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v, "do": d_o}, ["out", "lse", "dq"], "pos=shaw:2",
                     {"shaw_key": keys, "shaw_value": values}, ["shaw_key", "shaw_value"])
    for f, e in zip(found, (o, lse, d_q, d_keys, d_values)):
        close(f, e, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_t5_bias_and_its_gradient(tmp_path, variant):
    q, k, v = rounded(variant, *tensors())
    rng = np.random.default_rng(3)
    table, d_o = rounded(variant, rng.normal(size=(32, 4)), rng.normal(size=(2, 5, 4, 6)))
    distance = distances(q, k)
    buckets = np.where(distance > 0, 16, 0) + np.abs(distance)  # one bucket each below distance 8
    o, _, p = attention(q, k, v, bias=table[buckets].transpose(2, 0, 1))
    d_s = gradients(q, k, v, d_o, p)[3]
    d_table = np.einsum("bhij,ijr->rh", d_s, np.eye(32)[buckets])
    found = evaluate(tmp_path, variant, {"q": q, "k": k, "v": v, "do": d_o}, ["out"], "pos=t5:32:128",
                     {"t5_bias": table}, ["t5_bias"])
    for f, e in zip(found, (o, d_table)):
        close(f, e, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rope(tmp_path, variant):
    q, k, v = rounded(variant, *tensors())

    def rotate(x, positions):
        turned = (x[..., :4] + 1j * x[..., 4:]) * np.exp(
            1j * positions[:, None] * 100.0 ** (-2 * np.arange(4) / 8))[None, :, None, :]
        return np.concatenate([turned.real, turned.imag], axis=-1)

    o = attention(rotate(q, np.arange(5) + 2), rotate(k, np.arange(7)), v)[0]
    close(evaluate(tmp_path, variant, {"q": q, "k": k, "v": v}, ["out"], "pos=rope:100")[0], o, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_block(tmp_path, variant):
    rng = np.random.default_rng(4)
    x, wq, wk, wv, wo = rounded(variant, rng.normal(size=(2, 5, 12)), *(
        rng.normal(size=shape) / 3 for shape in [(12, 4 * 8), (12, 2 * 8), (12, 2 * 6), (4 * 6, 12)]))
    o, lse, _ = attention((x @ wq).reshape(2, 5, 4, 8), (x @ wk).reshape(2, 5, 2, 8), (x @ wv).reshape(2, 5, 2, 6),
                          np.tril(np.ones((5, 5), bool)))
    weights = {"x": x, "wq": wq, "wk": wk, "wv": wv, "wo": wo}
    found = evaluate(tmp_path, variant, weights, ["out", "lse"], "hq=4,hk=2,mask=causal")
    for f, e in zip(found, (o.reshape(2, 5, 24) @ wo, lse)):
        close(f, e, variant)


def test_oracle_takes_float32_too(tmp_path):
    q, k, v = (x.astype(np.float32) for x in tensors())
    for name, array in {"q": q, "k": k, "v": v}.items():
        np.save(tmp_path / f"{name}.npy", array)
    attnbench("eval", "--variant", "oracle", *(w for n in "qkv" for w in (f"--{n}", tmp_path / f"{n}.npy")),
              "--out", tmp_path / "o.npy")
    found = np.load(tmp_path / "o.npy")
    assert found.dtype == np.float64
    close(found, attention(*(x.astype(np.float64) for x in (q, k, v)))[0], "oracle")


def test_wrong_input_is_refused_in_one_line(tmp_path):
    q, k, v = (x.astype(np.float32) for x in tensors())
    files = {"q": q, "k": k, "v": v, "wide": q.astype(np.float64), "fortran": np.asfortranarray(q), "half":
             q.astype(np.float16), "big": q.astype(">f4"), "flat": q.ravel(), "x": q[0], "other_d": k[..., :4], "do": q[..., :6]}
    path = {name: tmp_path / f"{name}.npy" for name in files}
    for name, array in files.items():
        np.save(path[name], array)
    path["short"] = tmp_path / "short.npy"
    path["short"].write_bytes(path["q"].read_bytes()[:-4])
    path["text"] = tmp_path / "text.npy"
    path["text"].write_text("1 2 3")
    path["folder"] = tmp_path
    path["none"] = tmp_path / "none.npy"
    out = tmp_path / "o.npy"

    def refused(*more, q="q", k="k", v="v", variant="reference/cpu", out=out):
        files = [w for n, f in (("q", q), ("k", k), ("v", v)) if f for w in (f"--{n}", path[f])]
        return usage_error("eval", "--variant", variant, *files, *(["--out", out] if out else []), *more)

    assert "float64" in refused(q="wide")
    assert "Fortran" in refused(q="fortran")
    assert "<f2" in refused(q="half")
    assert ">f4" in refused(q="big")
    assert "4 axes" in refused(q="flat")
    assert "shape" in refused(q="short")
    assert "not a .npy" in refused(q="text")
    assert "is a folder" in refused(q="folder")
    assert "No such file" in refused(q="none")
    assert "--q is missing" in refused(q=None)
    assert "--k has shape (2, 7, 2, 4), the problem needs (2, 7, 2, 8)" in refused(k="other_d")
    assert "problem says nq=6, the files say nq=5" in refused("--problem", "nq=6")
    assert "pass=fwd" in refused("--problem", "pass=fwd", "--do", path["do"])
    assert "needs --do" in refused("--problem", "pass=bwd")
    assert "no --dq" in refused("--dq", tmp_path / "dq.npy")
    assert "--table t5_bias" in refused("--problem", "pos=t5:32:128")
    assert "not part of" in refused("--table", f"t5_bias={path['q']}")
    assert "NAME=FILE" in refused("--table", "t5_bias")
    assert "nowhere/cpu" in refused(variant="nowhere/cpu")
    assert "give hq=HEADS" in refused("--x", path["x"], q=None, k=None, v=None)
    assert "--wq is missing" in refused("--problem", "hq=2", "--x", path["x"], q=None, k=None, v=None)
    assert "--out" in refused(out=None)
    assert "No such file" in refused(out=tmp_path / "missing" / "o.npy")
    assert "--threads" in refused("--threads", "0")
    assert "foo" in refused("--problem", "foo=1")


def test_against_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arrays = [x for x in tensors(hq=4, hk=4)] + [np.random.default_rng(5).normal(size=(2, 5, 4, 6))]
    q, k, v, d_o = (torch.tensor(x.transpose(0, 2, 1, 3), requires_grad=True) for x in arrays)
    allowed = torch.tensor(distances(*arrays[:2]) <= 0)
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    o.backward(d_o.detach())
    expected = [x.detach().numpy().transpose(0, 2, 1, 3) for x in (o, q.grad, k.grad, v.grad)]
    for variant in VARIANTS:
        found = evaluate(tmp_path, variant, dict(zip(("q", "k", "v", "do"), arrays)), ["out", "dq", "dk", "dv"],
                         "mask=causal")
        for f, e in zip(found, expected):
            close(f, e, variant)
