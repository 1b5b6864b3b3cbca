"""Where a campaign's numbers come from: the machine, how it was measured, and how to measure it again."""

from finding import counted
from summary import listed
from tables import digits

FITTED = ("Exponents are least-squares fits in logarithms, or of a power beside a fixed cost where the corrected Akaike "
          "criterion justifies it; intervals are the widest of the fit's own and of a bootstrap over the raw samples. They "
          "are held against the declared growth: FLOPs from cost() for time, bytes from plan() for memory.")

STOPS = {"ratio": "the ratio to the baseline was known", "median": "the median was known",
         "processes": "each process knew, but they differ by more than the target", "budget": "the budget was spent"}


def bytes_text(value):
    steps = [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")]
    divisor, unit = next((step for step in steps if step[0] <= value), steps[-1])
    return f"{value / divisor:.3g} {unit}"


def cpu_facts(cpu):
    if not cpu:
        return []
    units = {"sockets": "socket", "cores": "core", "hardware_threads": "hardware thread", "usable_threads": "usable thread"}
    counts = [counted(cpu[name], one) for name, one in units.items() if cpu.get(name)]
    facts = [("CPU", ", ".join([str(cpu.get("model"))] + counts + (["virtual"] if cpu.get("hypervisor") else [])))]
    if cpu.get("caches"):
        caches = [f"{cache['level']} {cache['count']} × {bytes_text(cache['bytes'])}" for cache in cpu["caches"]]
        facts.append(("Caches", ", ".join(caches)))
    clock = [f"{cpu['clock_hz'] / 1e9:.2f} GHz"] if cpu.get("clock_hz") else []
    clock += [str(cpu[name]) for name in ("frequency_governor", "frequency_driver") if cpu.get(name)]
    return facts + [("Clock", ", ".join(clock) or "cannot be read")]


def build_facts(build):
    if not build:
        return []
    compiler = [str(build.get("compiler")), str(build.get("build_type")), " ".join(str(build.get("flags", "")).split())]
    state = {True: "with uncommitted changes", False: "without changes"}.get(build.get("dirty"), "changes unknown")
    facts = [("Compiler", ", ".join(word for word in compiler if word)), ("Commit", f"{str(build.get('commit'))[:12]}, {state}")]
    return facts + ([("CUDA compiler", build["cuda_compiler"])] if build.get("cuda_compiler") else [])


GPU_ROOFS = [("gemm_bf16_flops_per_s", 1e-12, "TFLOP/s bf16"), ("gemm_f16_flops_per_s", 1e-12, "TFLOP/s f16"),
             ("gemm_tf32_flops_per_s", 1e-12, "TFLOP/s tf32"), ("fma_f32_flops_per_s", 1e-12, "TFLOP/s float32"),
             ("ex2_approx_per_s", 1e-12, "T exp/s"), ("copy_bytes_per_s", 1e-9, "GB/s copied")]


def roof_facts(roofs):
    """The roofs of the most threads."""
    by_threads = (roofs or {}).get("by_threads") or []
    if not by_threads:
        return []
    top = max(by_threads, key=lambda entry: entry.get("threads", 0))
    words = [f"{digits(top[name] / 1e9, 3)} {unit}" for name, unit in
             (("fma_f32_flops_per_s", "GFLOP/s float32"), ("exp_f32_per_s", "G exp/s")) if top.get(name)]
    memory = (top.get("read_bytes_per_s") or {}).get("DRAM")
    words += [f"{digits(memory / 1e9, 3)} GB/s read from memory"] if memory else []
    facts = [(f"Roofs, {counted(top.get('threads', 0), 'thread')}", ", ".join(words))]
    gpu = (roofs or {}).get("gpu") or {}
    words = [f"{digits(gpu[name] * scale, 3)} {unit}" for name, scale, unit in GPU_ROOFS if gpu.get(name)]
    return facts + ([("Roofs, GPU", ", ".join(words))] if words else [])


def gpu_facts(gpu):
    nvml = (gpu.get("nvml") if isinstance(gpu, dict) else None) or {}
    words = [f"driver {nvml['driver']}"] if nvml.get("driver") else []
    words += [f"power limit {nvml['power_limit_w']:g} W"] if nvml.get("power_limit_w") else []
    words += [f"clock up to {nvml['sm_clock_max_hz'] / 1e9:.2f} GHz"] if nvml.get("sm_clock_max_hz") else []
    words += [f"{name.upper()} {nvml[name]}" for name in ("ecc", "mig") if nvml.get(name)]
    return [("GPU settings", ", ".join(words))] if words else []


def facts_of(environment):
    gpu = environment.get("gpu")
    facts = cpu_facts(environment.get("cpu") or {})
    if environment.get("memory_bytes"):
        facts.append(("Memory", bytes_text(environment["memory_bytes"])))
    if "gpu" in environment:
        facts.append(("GPU", str(gpu.get("name", gpu)) if isinstance(gpu, dict) else str(gpu or "none")))
        facts += gpu_facts(gpu)
    facts += roof_facts(environment.get("roofs")) + build_facts(environment.get("build"))
    system = [environment[name] for name in ("system", "kernel") if environment.get(name)]
    libraries = environment.get("libraries") or {}
    facts += [("System", ", ".join(system))] if system else []
    return facts + ([("Libraries", ", ".join(f"{name} {version}" for name, version in libraries.items()))] if libraries else [])


def machines(environment):
    """[(name, [(label, text)])]; one without a name where the folder does not join several kinds."""
    joined = environment.get("machines")
    if isinstance(joined, dict) and joined:
        return [(name, facts_of(inner)) for name, inner in joined.items()]
    facts = facts_of(environment)
    return [("", facts)] if facts else []


def flat(value, prefix=""):
    """Nested JSON as (name, text) lines."""
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in flat(inner, f"{prefix}.{key}" if prefix else key)]
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        return [line for index, inner in enumerate(value) for line in flat(inner, f"{prefix}[{index}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(str(inner) for inner in value))]
    return [(prefix, "unknown" if value is None else str(value))]


def has(rows, name):
    return name in rows and rows[name].notna().any()


def sampling(rows, budget, target):
    text = ("A sample is a batch of calls long enough for the clock, its time that of one call. The variants of a point are "
            "timed in interleaved, shuffled rounds; every sample is in samples.csv.")
    if has(rows, "cache"):
        text += (" On a GPU, calls take sets of operands in turn that are twice as large as its cache (cold); a second pass "
                 "repeats them on one set (hot), in columns of its own.")
    if has(rows, "samples"):
        text += f" Here: {int(rows.samples.sum())} samples, {rows.samples.median():.0f} a row in the median."
    if has(rows, "processes"):
        counts = rows.processes.value_counts().sort_index()
        text += " " + listed(f"{counted(count, 'row')} from {counted(int(processes), 'process', 'processes')}"
                             for processes, count in counts.items()) + "."
    spent = f"its budget{f' of {budget:g} s' if budget else ''} is spent"
    if not has(rows, "stop"):
        return f"{text} A row stops when its interval is within ±2 % or {spent}; which of them is not recorded."
    reasons = listed(f"{STOPS.get(reason, reason)} ({count})" for reason, count in rows.stop.value_counts().items())
    return f"{text} A row stops when its answer is known within ±{100 * target:g} % or {spent}. What ended it: {reasons}."


def method(campaign):
    """[(topic, text)] with the campaign's own counts."""
    rows, config = campaign.ok, campaign.config
    seeds = f", fill {config['fill']}, seed {config.get('seed')}" if config.get("fill") else ""
    topics = [("Check", f"Each variant is checked against a float64 oracle on the inputs it is then timed on{seeds}. Error / "
                        "bound is the largest error over its derived bound; a row that is not ok has no time."),
              ("Time", sampling(rows, config.get("budget_s"), config.get("target", 0.02))),
              ("Intervals", "95 %, of the median, by order statistics; below six samples there is none."
               + (f" Ratios to {config['baseline']} are paired by round." if config.get("baseline") else ""))]
    if has(rows, "memory_method"):
        topics.append(("Memory", "; ".join(rows.memory_method.dropna().unique()) + "."))
    if len(campaign.fits):
        topics.append(("Exponents", FITTED))
    if len(campaign.crossovers):
        topics.append(("Crossovers", "Interpolated between measured points in logarithms, with a bootstrap interval."))
    return topics


def commands(environment):
    """The commands that measured this folder, each once."""
    sessions = environment.get("sessions") or [environment]
    return list(dict.fromkeys(session["command_line"] for session in sessions if session.get("command_line")))
