"""The LLVM text of the thread pool: its caller works too and never waits for a worker that sleeps.

Invariant: the word `@ft_word` is (generation << 32 | tickets left). A ticket is claimed by one
compare-and-swap of the whole word, so a claim that succeeds proves that the job fields read before
it belong to the claimed ticket: they are rewritten only while no ticket is left.
"""

from typing import Literal, NamedTuple

from jit.names import COLD
from jit.processor import Family
from jit.runtime.waiting_text import ADDRESS, ALONE, CALL, CONDITION, FUTEX, POSIX, WINDOWS

# About 50 to 150 us of pauses, by processor: a worker sleeps after that, and so does a join. It
# spans what lies between two parallel loops of one program, and little more.
SPINS = 5000
# A loop that is too small to wake anybody for wakes them once in so many times: programs of nothing
# but small loops get hot too.
PATIENT_MISSES = 8
MAX_TICKETS = 2**31 - 1


Sleeping = Literal["futex", "condition", "address", "none"]
"""How threads sleep: futexes of Linux, condition variables of POSIX, WaitOnAddress of Windows. With
none there are no threads, and every loop is serial."""


class Platform(NamedTuple):
    """What the pool needs to know of the machine: processor family and operating system."""

    processor: Family
    sleeping: Sleeping
    set_mask: int = 2  # SIG_SETMASK

    @property
    def pause(self) -> str:
        """The instruction that tells the core it is in a spin loop."""
        match self.processor:
            case "x86_64":
                return "call void @llvm.x86.sse2.pause()"
            case "aarch64":
                return "call void @llvm.aarch64.hint(i32 1)"
            case "other":
                return "call i32 @sched_yield()" if self.is_posix else "fence acquire"

    @property
    def is_posix(self) -> bool:
        """Are there POSIX threads?"""
        return self.sleeping in ("futex", "condition")


def pool_text(platform: Platform) -> str:
    """The whole module of the pool for one platform."""
    match platform.sleeping:
        case "futex":
            text = CALL + POSIX + FUTEX
        case "condition":
            text = CALL + POSIX + CONDITION
        case "address":
            text = CALL + WINDOWS + ADDRESS
        case "none":
            text = ALONE
    text = _STATE + _CLAIM + _WORKER + _SIZE + _PARALLEL_FOR + text
    # Spilled registers are nothing beside the cache lines that cores pass to each other.
    text = text.replace(") nounwind {", f") {COLD} {{")
    for name, value in {
        "PAUSE": platform.pause,
        "MAX_TICKETS": str(MAX_TICKETS),
        "PATIENT_MISSES": str(PATIENT_MISSES),
        "LAST_MISS": str(PATIENT_MISSES - 1),
        "SET_MASK": str(platform.set_mask),
        "SYSCALL": "202" if platform.processor == "x86_64" else "98",
    }.items():
        text = text.replace(name, value)
    return text + _declarations(platform)


def imported_names(platform: Platform) -> tuple[str, ...]:
    """The C library functions the module calls."""
    threads = ("pthread_create", "pthread_detach", "pthread_sigmask", "sigfillset")
    waiting = (
        "mutex_init",
        "mutex_lock",
        "mutex_unlock",
        "cond_init",
        "cond_wait",
        "cond_broadcast",
    )
    match platform.sleeping:
        case "futex":
            return (*threads, "syscall")
        case "condition":
            extra = ("sched_yield",) if platform.processor == "other" else ()
            return (*threads, *extra, *(f"pthread_{name}" for name in waiting))
        case "address":
            windows = ("CreateThread", "CloseHandle")
            return (*windows, "WaitOnAddress", "WakeByAddressSingle", "WakeByAddressAll")
        case "none":
            return ()


def _declarations(platform: Platform) -> str:
    match platform.processor:
        case "x86_64":
            return "declare void @llvm.x86.sse2.pause()\n"
        case "aarch64":
            return "declare void @llvm.aarch64.hint(i32)\n"
        case "other":
            return "declare i32 @sched_yield()\n" if platform.is_posix else ""


# Each word that several threads write has two cache lines of its own: they are fetched in pairs.
_STATE = """
@ft_word = internal global [16 x i64] zeroinitializer, align 128
@ft_signal = internal global [32 x i32] zeroinitializer, align 128
@ft_sleepers = internal global [32 x i32] zeroinitializer, align 128
@ft_done = internal global [32 x i32] zeroinitializer, align 128
@ft_joining = internal global [32 x i32] zeroinitializer, align 128
@ft_busy = internal global [32 x i32] zeroinitializer, align 128
@ft_epoch = internal global i64 0, align 128
@ft_size = internal global i64 1, align 8
@ft_spins = internal global i64 0, align 8
@ft_misses = internal global i64 0, align 8
@ft_started = internal global i64 1, align 8
@ft_job_fn = internal global ptr null, align 128
@ft_job_ctx = internal global ptr null, align 8
@ft_job_n = internal global i64 0, align 8
@ft_job_grain = internal global i64 1, align 8
@ft_job_tickets = internal global i64 0, align 8
@ft_mutex = internal global [16 x i64] zeroinitializer, align 16
@ft_condition = internal global [16 x i64] zeroinitializer, align 16
"""

_CLAIM = """
; Claim and run tickets of the current job until none is left.
define internal void @ft_drain() nounwind {
entry:
  br label %look
look:
  %word = load atomic i64, ptr @ft_word acquire, align 8
  %left = and i64 %word, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %out, label %read
read:
  %fn = load atomic ptr, ptr @ft_job_fn monotonic, align 8
  %ctx = load atomic ptr, ptr @ft_job_ctx monotonic, align 8
  %n = load atomic i64, ptr @ft_job_n monotonic, align 8
  %grain = load atomic i64, ptr @ft_job_grain monotonic, align 8
  %tickets = load atomic i64, ptr @ft_job_tickets monotonic, align 8
  %after = sub i64 %word, 1
  %pair = cmpxchg ptr @ft_word, i64 %word, i64 %after acq_rel monotonic, align 8
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %run, label %look
run:
  %ticket = sub i64 %tickets, %left
  %lo = mul i64 %ticket, %grain
  %rest = sub i64 %n, %lo
  %short = icmp slt i64 %rest, %grain
  %size = select i1 %short, i64 %rest, i64 %grain
  %hi = add i64 %lo, %size
  call void %fn(ptr %ctx, i64 %lo, i64 %hi)
  %old = atomicrmw add ptr @ft_done, i32 1 seq_cst, align 4
  %joining = load atomic i32, ptr @ft_joining seq_cst, align 4
  %waited = icmp ne i32 %joining, 0
  br i1 %waited, label %tell, label %look
tell:
  call void @ft_wake(ptr @ft_done, i64 1)
  br label %look
out:
  ret void
}
"""

_WORKER = """
; A worker lives as long as the epoch it was started in.
define internal ptr @ft_worker(ptr %argument) nounwind {
entry:
  %epoch = ptrtoint ptr %argument to i64
  br label %look
look:
  %spins = phi i64 [0, %entry], [0, %work], [0, %sleep], [%spun, %spin]
  %now = load atomic i64, ptr @ft_epoch acquire, align 8
  %current = icmp eq i64 %now, %epoch
  br i1 %current, label %check, label %out
check:
  %signal = load atomic i32, ptr @ft_signal acquire, align 4
  %word = load atomic i64, ptr @ft_word acquire, align 8
  %left = and i64 %word, 4294967295
  %none = icmp eq i64 %left, 0
  br i1 %none, label %idle, label %work
work:
  call void @ft_drain()
  br label %look
idle:
  %most = load atomic i64, ptr @ft_spins monotonic, align 8
  %patient = icmp slt i64 %spins, %most
  br i1 %patient, label %spin, label %sleep
spin:
  PAUSE
  %spun = add i64 %spins, 1
  br label %look
sleep:
  %a = atomicrmw add ptr @ft_sleepers, i32 1 seq_cst, align 4
  call void @ft_wait(ptr @ft_signal, i32 %signal)
  %b = atomicrmw sub ptr @ft_sleepers, i32 1 seq_cst, align 4
  br label %look
out:
  ret ptr null
}
"""

_SIZE = """
; The number of threads that a job begun now will use, the caller's included: one inside a job.
define i64 @ft_pool_size() nounwind {
entry:
  %size = load atomic i64, ptr @ft_size monotonic, align 8
  %busy = load atomic i32, ptr @ft_busy monotonic, align 4
  %taken = icmp ne i32 %busy, 0
  %threads = select i1 %taken, i64 1, i64 %size
  ret i64 %threads
}

; %spins: how often an idle thread looks for work before it sleeps.
define void @ft_pool_resize(i64 %size, i64 %spins) nounwind {
entry:
  store atomic i64 %size, ptr @ft_size monotonic, align 8
  store atomic i64 %spins, ptr @ft_spins monotonic, align 8
  ret void
}

; Forget threads and locks that a fork left behind; the next job starts new workers.
define void @ft_pool_forget() nounwind {
entry:
  store atomic i64 1, ptr @ft_started monotonic, align 8
  store atomic i64 0, ptr @ft_word seq_cst, align 8
  store atomic i32 0, ptr @ft_sleepers seq_cst, align 4
  store atomic i32 0, ptr @ft_joining seq_cst, align 4
  store atomic i32 0, ptr @ft_busy seq_cst, align 4
  call void @ft_init()
  ret void
}
"""

_PARALLEL_FOR = """
; Call fn(ctx, lo, hi) for the pieces [c * grain, (c + 1) * grain) of [0, n), each once, on any
; thread, and return when all have run. A second job, of another thread or nested, runs serially.
define void @ft_parallel_for(ptr %fn, ptr %ctx, i64 %n, i64 %grain) nounwind {
entry:
  call void @ft_job(ptr %fn, ptr %ctx, i64 %n, i64 %grain, i1 false, i1 true)
  ret void
}

; The same for a loop so small that waking a worker would cost more than it brings: those that spin
; take part. When all sleep they are woken only now and then.
define void @ft_parallel_hot(ptr %fn, ptr %ctx, i64 %n, i64 %grain) nounwind {
entry:
  %started = load atomic i64, ptr @ft_started monotonic, align 8
  %workers = sub i64 %started, 1
  %sleeping = load atomic i32, ptr @ft_sleepers monotonic, align 4
  %sleepers = sext i32 %sleeping to i64
  %hot = icmp slt i64 %sleepers, %workers
  br i1 %hot, label %run, label %cold
cold:
  %misses = load atomic i64, ptr @ft_misses monotonic, align 8
  %more = add i64 %misses, 1
  store atomic i64 %more, ptr @ft_misses monotonic, align 8
  %turn = urem i64 %misses, PATIENT_MISSES
  %last = icmp eq i64 %turn, LAST_MISS
  %not = xor i1 %last, true
  br label %run
run:
  %alone = phi i1 [false, %entry], [%not, %cold]
  %wake = phi i1 [false, %entry], [true, %cold]
  call void @ft_job(ptr %fn, ptr %ctx, i64 %n, i64 %grain, i1 %alone, i1 %wake)
  ret void
}

define internal void @ft_job(
    ptr %fn, ptr %ctx, i64 %n, i64 %grain.given, i1 %on.caller, i1 %wake) nounwind {
entry:
  %tiny = icmp slt i64 %grain.given, 1
  %grain = select i1 %tiny, i64 1, i64 %grain.given
  %n.less = sub i64 %n, 1
  %whole = udiv i64 %n.less, %grain
  %tickets = add i64 %whole, 1
  %empty = icmp slt i64 %n, 1
  br i1 %empty, label %out, label %sized
sized:
  %single = icmp eq i64 %tickets, 1
  %vast = icmp sgt i64 %tickets, MAX_TICKETS
  %size = load atomic i64, ptr @ft_size monotonic, align 8
  %alone = icmp slt i64 %size, 2
  %no.1 = or i1 %single, %vast
  %no.2 = or i1 %no.1, %on.caller
  %no = or i1 %no.2, %alone
  br i1 %no, label %serial, label %enter
enter:
  %pair = cmpxchg ptr @ft_busy, i32 0, i32 1 acquire monotonic, align 4
  %got = extractvalue { i32, i1 } %pair, 1
  br i1 %got, label %held, label %serial
held:
  %started = load atomic i64, ptr @ft_started monotonic, align 8
  %ready = icmp eq i64 %started, %size
  br i1 %ready, label %publish, label %start
start:
  call void @ft_start(i64 %size)
  br label %publish
publish:
  store atomic ptr %fn, ptr @ft_job_fn monotonic, align 8
  store atomic ptr %ctx, ptr @ft_job_ctx monotonic, align 8
  store atomic i64 %n, ptr @ft_job_n monotonic, align 8
  store atomic i64 %grain, ptr @ft_job_grain monotonic, align 8
  store atomic i64 %tickets, ptr @ft_job_tickets monotonic, align 8
  store atomic i32 0, ptr @ft_done monotonic, align 4
  %last = load atomic i64, ptr @ft_word monotonic, align 8
  %generation = add i64 %last, 4294967296
  %word = or i64 %generation, %tickets
  store atomic i64 %word, ptr @ft_word seq_cst, align 8
  br i1 %wake, label %call, label %work
call:
  %others = sub i64 %tickets, 1
  call void @ft_call(i64 %others)
  br label %work
work:
  call void @ft_drain()
  %goal = trunc i64 %tickets to i32
  br label %join
join:
  %spins = phi i64 [0, %work], [%spun, %spin]
  %done = load atomic i32, ptr @ft_done acquire, align 4
  %finished = icmp eq i32 %done, %goal
  br i1 %finished, label %leave, label %unfinished
unfinished:
  %most = load atomic i64, ptr @ft_spins monotonic, align 8
  %patient = icmp slt i64 %spins, %most
  br i1 %patient, label %spin, label %doze
spin:
  PAUSE
  %spun = add i64 %spins, 1
  br label %join
doze:
  store atomic i32 1, ptr @ft_joining seq_cst, align 4
  br label %again
again:
  %seen = load atomic i32, ptr @ft_done seq_cst, align 4
  %complete = icmp eq i32 %seen, %goal
  br i1 %complete, label %awake, label %sleep
sleep:
  call void @ft_wait(ptr @ft_done, i32 %seen)
  br label %again
awake:
  store atomic i32 0, ptr @ft_joining monotonic, align 4
  br label %leave
leave:
  store atomic i32 0, ptr @ft_busy release, align 4
  ret void
serial:
  %lo = phi i64 [0, %sized], [0, %enter], [%hi, %serial]
  %rest = sub i64 %n, %lo
  %short = icmp slt i64 %rest, %grain
  %piece = select i1 %short, i64 %rest, i64 %grain
  %hi = add i64 %lo, %piece
  call void %fn(ptr %ctx, i64 %lo, i64 %hi)
  %more = icmp slt i64 %hi, %n
  br i1 %more, label %serial, label %out
out:
  ret void
}
"""
