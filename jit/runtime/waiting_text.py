"""The LLVM text of how the thread pool's workers are started, sleep and are woken, by system.

Invariant: `ft_wait(word, seen)` returns at once where the word is not `seen`, and may return early;
`ft_wake(word, count)` after a change of the word reaches whoever waits on the old value.
"""

CALL = """
; Tell the workers that something changed, and wake up to %count of those that sleep.
define internal void @ft_call(i64 %count) nounwind {
entry:
  %old = atomicrmw add ptr @ft_signal, i32 1 seq_cst, align 4
  %sleepers = load atomic i32, ptr @ft_sleepers seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %wake, label %out
wake:
  call void @ft_wake(ptr @ft_signal, i64 %count)
  br label %out
out:
  ret void
}
"""

POSIX = """
; Replace the workers by %size - 1 new ones. Signals stay with the threads of the program. Where the
; system refuses a thread the pool is smaller: the caller drains what nobody else claims.
define internal void @ft_start(i64 %size) nounwind {
entry:
  %thread = alloca i64, align 8
  %all = alloca [16 x i64], align 16
  %before = alloca [16 x i64], align 16
  %old = atomicrmw add ptr @ft_epoch, i64 1 seq_cst, align 8
  %epoch = add i64 %old, 1
  %argument = inttoptr i64 %epoch to ptr
  call void @ft_call(i64 MAX_TICKETS)
  %s = call i32 @sigfillset(ptr %all)
  %m = call i32 @pthread_sigmask(i32 SET_MASK, ptr %all, ptr %before)
  br label %next
next:
  %i = phi i64 [1, %entry], [%following, %detach]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %create, label %out
create:
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @ft_worker, ptr %argument)
  %fine = icmp eq i32 %failed, 0
  br i1 %fine, label %detach, label %out
detach:
  %handle = load i64, ptr %thread, align 8
  %d = call i32 @pthread_detach(i64 %handle)
  %following = add i64 %i, 1
  br label %next
out:
  %r = call i32 @pthread_sigmask(i32 SET_MASK, ptr %before, ptr null)
  store atomic i64 %size, ptr @ft_started monotonic, align 8
  ret void
}

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
"""

# CreateThread gives a handle; threads of Windows have no signals to keep away.
WINDOWS = """
; Replace the workers by %size - 1 new ones. Where the system refuses a thread the pool is smaller:
; the caller drains what nobody else claims.
define internal void @ft_start(i64 %size) nounwind {
entry:
  %old = atomicrmw add ptr @ft_epoch, i64 1 seq_cst, align 8
  %epoch = add i64 %old, 1
  %argument = inttoptr i64 %epoch to ptr
  call void @ft_call(i64 MAX_TICKETS)
  br label %next
next:
  %i = phi i64 [1, %entry], [%following, %detach]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %create, label %out
create:
  %handle = call ptr @CreateThread(ptr null, i64 0, ptr @ft_worker, ptr %argument, i32 0, ptr null)
  %fine = icmp ne ptr %handle, null
  br i1 %fine, label %detach, label %out
detach:
  %d = call i32 @CloseHandle(ptr %handle)
  %following = add i64 %i, 1
  br label %next
out:
  store atomic i64 %size, ptr @ft_started monotonic, align 8
  ret void
}

declare ptr @CreateThread(ptr, i64, ptr, ptr, i32, ptr)
declare i32 @CloseHandle(ptr)
"""

# Futexes by another name; -1 is INFINITE.
ADDRESS = """
define internal void @ft_wait(ptr %word, i32 %seen) nounwind {
entry:
  %copy = alloca i32, align 4
  store i32 %seen, ptr %copy, align 4
  %r = call i32 @WaitOnAddress(ptr %word, ptr %copy, i64 4, i32 -1)
  ret void
}

define internal void @ft_wake(ptr %word, i64 %count) nounwind {
entry:
  %one = icmp eq i64 %count, 1
  br i1 %one, label %single, label %all
single:
  call void @WakeByAddressSingle(ptr %word)
  ret void
all:
  call void @WakeByAddressAll(ptr %word)
  ret void
}

define void @ft_init() nounwind {
entry:
  ret void
}
declare i32 @WaitOnAddress(ptr, ptr, i64, i32)
declare void @WakeByAddressSingle(ptr)
declare void @WakeByAddressAll(ptr)
"""

# FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129.
FUTEX = """
define internal void @ft_wait(ptr %word, i32 %seen) nounwind {
entry:
  %r = call i64 (i64, ...) @syscall(i64 SYSCALL, ptr %word, i64 128, i32 %seen, ptr null)
  ret void
}

define internal void @ft_wake(ptr %word, i64 %count) nounwind {
entry:
  %r = call i64 (i64, ...) @syscall(i64 SYSCALL, ptr %word, i64 129, i64 %count)
  ret void
}

define void @ft_init() nounwind {
entry:
  ret void
}
declare i64 @syscall(i64, ...)
"""

CONDITION = """
define internal void @ft_wait(ptr %word, i32 %seen) nounwind {
entry:
  %l = call i32 @pthread_mutex_lock(ptr @ft_mutex)
  br label %look
look:
  %value = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %value, %seen
  br i1 %same, label %sleep, label %out
sleep:
  %w = call i32 @pthread_cond_wait(ptr @ft_condition, ptr @ft_mutex)
  br label %look
out:
  %u = call i32 @pthread_mutex_unlock(ptr @ft_mutex)
  ret void
}

define internal void @ft_wake(ptr %word, i64 %count) nounwind {
entry:
  %l = call i32 @pthread_mutex_lock(ptr @ft_mutex)
  %b = call i32 @pthread_cond_broadcast(ptr @ft_condition)
  %u = call i32 @pthread_mutex_unlock(ptr @ft_mutex)
  ret void
}

define void @ft_init() nounwind {
entry:
  %m = call i32 @pthread_mutex_init(ptr @ft_mutex, ptr null)
  %c = call i32 @pthread_cond_init(ptr @ft_condition, ptr null)
  ret void
}
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
"""

ALONE = """
define internal void @ft_wait(ptr %word, i32 %seen) nounwind {
entry:
  ret void
}

define internal void @ft_wake(ptr %word, i64 %count) nounwind {
entry:
  ret void
}

define internal void @ft_call(i64 %count) nounwind {
entry:
  ret void
}

define internal void @ft_start(i64 %size) nounwind {
entry:
  ret void
}

define void @ft_init() nounwind {
entry:
  ret void
}
"""
