"""The LLVM text of NumPy's side of recycled blocks: its memory handler, and arrays that own one.

Both are parts of the module of blocks_text.py, whose functions they call.
"""

HANDLER_NAME = "functrans"
PYTHON_IMPORTS = ("Py_IncRef", "PyTraceMalloc_Track")
FLAGS, OWNDATA = 0x500, 4
"""ALIGNED | WRITEABLE, which a new array is told, and what it is told besides once it owns."""


def arrays_text() -> str:
    """The handler, by the names of NumPy's functions, and the function that makes arrays."""
    name = HANDLER_NAME.encode().ljust(127, b"\0")
    spelled = "".join(f"\\{byte:02X}" for byte in name)
    kinds = ("malloc", "calloc", "realloc", "free")
    functions = ", ".join(["ptr null", *(f"ptr @handler_{kind}" for kind in kinds)])
    handler = f'[127 x i8] c"{spelled}", i8 1, [5 x ptr] [{functions}]'
    text = _HANDLER.replace("$HANDLER", handler) + _ARRAY
    return text.replace("$FLAGS", str(FLAGS)).replace("$OWNDATA", str(OWNDATA))


_HANDLER = """
; NumPy's PyDataMem_Handler, version 1. It and its name live as long as the process.
@ft_block_handler = global { [127 x i8], i8, [5 x ptr] } { $HANDLER }, align 64
@ft_block_capsule_name = constant [12 x i8] c"mem_handler\\00", align 16
@ft_block_capsule = global ptr null, align 8

define internal ptr @handler_malloc(ptr %ctx, i64 %size) nounwind {
entry:
  %place = call ptr @ft_block_take(i64 %size)
  ret ptr %place
}

define internal ptr @handler_calloc(ptr %ctx, i64 %number, i64 %each) nounwind {
entry:
  %pair = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %number, i64 %each)
  %size = extractvalue { i64, i1 } %pair, 0
  %vast = extractvalue { i64, i1 } %pair, 1
  br i1 %vast, label %none, label %take
take:
  %place = call ptr @ft_block_take(i64 %size)
  %failed = icmp eq ptr %place, null
  br i1 %failed, label %none, label %clear
clear:
  %c = call ptr @memset(ptr %place, i32 0, i64 %size)
  ret ptr %place
none:
  ret ptr null
}

define internal ptr @handler_realloc(ptr %ctx, ptr %old, i64 %size) nounwind {
entry:
  %nothing = icmp eq ptr %old, null
  br i1 %nothing, label %first, label %second
first:
  %made = call ptr @ft_block_take(i64 %size)
  ret ptr %made
second:
  %length = call i64 @length_of(ptr %old)
  %vast = icmp ugt i64 %size, 70368744177664
  br i1 %vast, label %none, label %measure
measure:
  %wanted = call i64 @rounded(i64 %size)
  %same = icmp eq i64 %wanted, %length
  br i1 %same, label %stay, label %move
stay:
  ret ptr %old
move:
  %place = call ptr @ft_block_take(i64 %size)
  %failed = icmp eq ptr %place, null
  br i1 %failed, label %none, label %copy
copy:
  %room = call i64 @room(ptr %old)
  %less = icmp ult i64 %room, %size
  %bytes = select i1 %less, i64 %room, i64 %size
  %c = call ptr @memcpy(ptr %place, ptr %old, i64 %bytes)
  call void @ft_block_give(ptr %old)
  ret ptr %place
none:
  ret ptr null
}

define internal void @handler_free(ptr %ctx, ptr %place, i64 %size) nounwind {
entry:
  %nothing = icmp eq ptr %place, null
  br i1 %nothing, label %out, label %give
give:
  call void @ft_block_give(ptr %place)
  br label %out
out:
  ret void
}
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)
declare ptr @memset(ptr, i32, i64)
declare ptr @memcpy(ptr, ptr, i64)
"""

# tracemalloc knows NumPy's data by the domain 389047; Track does nothing unless it is tracing.
_ARRAY = """
; A new array of %size bytes that owns a block. None where there is no memory; null, with NumPy's
; exception, where it makes no array. Called with the GIL.
define ptr @ft_block_array(ptr %descr, i32 %nd, ptr %dims, i64 %size) nounwind {
entry:
  %place = call ptr @ft_block_take(i64 %size)
  %none = icmp eq ptr %place, null
  br i1 %none, label %empty, label %wrap
empty:
  call void @Py_IncRef(ptr @Py_None)
  ret ptr @Py_None
wrap:
  call void @Py_IncRef(ptr %descr)
  %array = call ptr @PyArray_NewFromDescr(
      ptr @PyArray_Type, ptr %descr, i32 %nd, ptr %dims, ptr null, ptr %place, i32 $FLAGS, ptr null)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %undo, label %own
undo:
  call void @ft_block_give(ptr %place)
  ret ptr null
own:
  %flags.at = getelementptr i8, ptr %array, i64 64
  %flags = load i32, ptr %flags.at, align 4
  %owning = or i32 %flags, $OWNDATA
  store i32 %owning, ptr %flags.at, align 4
  %capsule = load ptr, ptr @ft_block_capsule, align 8
  call void @Py_IncRef(ptr %capsule)
  %handler.at = getelementptr i8, ptr %array, i64 88
  store ptr %capsule, ptr %handler.at, align 8
  %address = ptrtoint ptr %place to i64
  %t = call i32 @PyTraceMalloc_Track(i32 389047, i64 %address, i64 %size)
  ret ptr %array
}
@PyArray_Type = external global i8
@Py_None = external global i8
declare void @Py_IncRef(ptr)
declare ptr @PyArray_NewFromDescr(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)
declare i32 @PyTraceMalloc_Track(i32, i64, i64)
"""
