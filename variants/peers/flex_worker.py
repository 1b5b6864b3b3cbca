"""PyTorch's FlexAttention, compiled, as a process that flex.cpp talks to: flex_worker.py DEVICE DESCRIPTOR.

A command is a line of JSON on standard input, its answer one on standard output: {"ok": ...} or {"error": text}. Tensors
lie in the memory file DESCRIPTOR, at offsets that the commands give; they are copied to and from the device here.

  prepare   mask and score modification of a problem, from the numbers of the harness's own rules
  forward   reads q, k, v and tables, writes o and lse
  backward  reads q, k, v and d_o, writes d_q, d_k and d_v
  time      seconds for a number of calls on the tensors of the last command: events on a GPU, a steady clock on a CPU
"""

import json
import mmap
import os
import sys
import time

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def make_mask(problem, device):
    """The harness's MaskRule as a block mask; nothing where every key is visible."""
    if not problem["masked"]:
        return None
    low, high, seq_kv = problem["band_low"], problem["band_high"], problem["seq_kv"]
    lengths = torch.tensor(problem["lengths"] or [seq_kv], device=device)
    count, blocks = len(lengths), problem["blocks"]
    documents = torch.tensor(problem["documents"] or [], device=device)
    if blocks:
        visible = torch.tensor(blocks["visible"], dtype=torch.bool, device=device).view(-1, blocks["columns"])
        tall, wide = blocks["block_q"], blocks["block_kv"]

    def allowed(b, h, i, j):
        inside = (j - i >= low) & (j - i <= high) & (j < lengths[b % count])
        if len(documents):
            inside = inside & (documents[i] == documents[j])
        return inside & visible[i // tall, j // wide] if blocks else inside

    batch = problem["batch"] if count > 1 else None
    return create_block_mask(allowed, batch, None, problem["seq_q"], seq_kv, device=device)


def make_score(problem, bias):
    """Softcap, then the bias of head and distance: bias[head, j - i + seq_q - 1]; nothing where there is neither."""
    cap, first = problem["softcap"], problem["seq_q"] - 1
    if not cap and bias is None:
        return None

    def modified(score, b, h, i, j):
        if cap:
            score = cap * torch.tanh(score / cap)
        return score if bias is None else score + bias[h, j - i + first]

    return modified


class Worker:
    def __init__(self, device, descriptor):
        self.device = torch.device(device)
        self.descriptor = descriptor
        self.problem = None
        self.sets, self.turn = [], 0

    def prepare(self, command):
        """Another problem is compiled anew; the same one with another pass is not."""
        problem = command["problem"]
        if self.device.type == "cpu":
            torch.set_num_threads(problem["threads"])
        if problem == self.problem:
            return
        torch._dynamo.reset()
        self.flex = torch.compile(flex_attention, dynamic=False)
        self.mask = make_mask(problem, self.device)
        self.bias = None
        if problem["biased"]:
            self.bias = torch.zeros(problem["heads_q"], problem["seq_q"] + problem["seq_kv"] - 1, device=self.device)
        self.score = make_score(problem, self.bias)
        self.problem = problem

    def shared(self, place):
        """A tensor of the memory file, as [batch, head, seq, width] or as its own shape says."""
        size = os.fstat(self.descriptor).st_size
        memory = mmap.mmap(self.descriptor, size)
        flat = torch.frombuffer(memory, dtype=TYPES[place["type"]], count=place["elements"], offset=place["offset"])
        return flat.as_strided(place["shape"], place["strides"])

    def load(self, command, names):
        if self.bias is not None:
            table = self.shared(command["bias"]).to(self.device)
            self.bias.copy_(table)
        return [self.shared(command[name]).to(self.device) for name in names]

    def attend(self, q, k, v):
        problem = self.problem
        with_lse = self.device.type == "cuda"
        result = self.flex(q, k, v, score_mod=self.score, block_mask=self.mask, scale=problem["scale"],
                           enable_gqa=problem["heads_q"] != problem["heads_kv"], return_lse=with_lse)
        return result if with_lse else (result, None)

    def forward(self, command):
        inputs = self.load(command, ("q", "k", "v"))
        with torch.no_grad():
            o, lse = self.attend(*inputs)
        self.shared(command["o"]).copy_(o)
        if lse is not None:
            self.shared(command["lse"]).copy_(lse)

        def call(tensors):
            with torch.no_grad():
                self.attend(*tensors)

        self.keep(call, inputs)

    def backward(self, command):
        *inputs, d_o = self.load(command, ("q", "k", "v", "d_o"))
        inputs = [tensor.requires_grad_() for tensor in inputs]
        o, _ = self.attend(*inputs)
        for name, gradient in zip(("d_q", "d_k", "d_v"), torch.autograd.grad(o, inputs, d_o, retain_graph=True)):
            self.shared(command[name]).copy_(gradient)
        self.keep(lambda tensors: torch.autograd.grad(o, inputs, tensors[0], retain_graph=True), [d_o])

    def keep(self, call, tensors):
        """What `time` calls, with as many copies of the operands as two L2 caches do not hold; a backward's graph has one set."""
        self.call, self.sets, self.turn = call, [tensors], 0
        if self.device.type != "cuda" or len(tensors) == 1:
            return
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        wanted = -(-2 * torch.cuda.get_device_properties(self.device).L2_cache_size // size)
        while len(self.sets) < wanted:
            self.sets.append([tensor.clone() for tensor in tensors])

    def time(self, command):
        calls, cold = command["calls"], command["cold"]
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
        begun = time.perf_counter()
        for _ in range(calls):
            self.turn = (self.turn + 1) % len(self.sets) if cold else 0
            self.call(self.sets[self.turn])
        if not on_gpu:
            return time.perf_counter() - begun
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e-3

    def answer(self, line):
        command = json.loads(line)
        try:
            return {"ok": getattr(self, command["op"])(command)}
        except Exception as error:  # every failure of the library is an answer  # pylint: disable=broad-except
            return {"error": (str(error).strip() or type(error).__name__).splitlines()[0][:500]}


def main():
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print stays out of the answers
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        print(json.dumps(worker.answer(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
