"""The operations that programs are made of: each is a template of Python code, a rule, a margin.

One operation a line, however long: it is read as a table.
"""
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.fuzz.choosing import (
    Margin,
    Rule,
    alike,
    along,
    axis,
    bigger,
    broadcasting,
    conv_operands,
    dynamic_operands,
    fancy,
    flag,
    gather_operands,
    grown_shape,
    half_integer,
    halvings,
    has_axis,
    inside,
    integer,
    joined_operands,
    matmul_operands,
    matrix,
    mixed_operands,
    neighbours,
    new_shape,
    off_cut,
    one,
    own_axis,
    pads,
    per_axis,
    permutation,
    quotient,
    scatter_operands,
    slices,
    small,
    some_axes,
    sort_two_operands,
    take_operands,
    tie,
    to_float_operands,
    traced_index_operands,
    two_alike_operands,
    two_matrices_operands,
    two_small_operands,
    vector,
    view,
    where_operands,
    zero,
)


@dataclass(frozen=True)
class Operation:
    """`body` names the shape of function that the operation is given: see generate.py."""

    name: str
    template: str
    choose: Rule
    margin: Margin | None = None
    body: str = ""


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, template: str, choose: Rule, margin: Margin | None = None, body: str = ""
) -> None:
    assert name not in OPERATIONS, name
    OPERATIONS[name] = Operation(name, template, choose, margin, body)


# fmt: off
# -- elementwise ----------------------------------------------------------------------------------

for _name in ('sin', 'cos', 'exp', 'expm1', 'exp2', 'sinh', 'cosh', 'tanh', 'square'):
    operation(_name, f'np.{_name}({{0}})', one('fc', lambda x: bool((np.abs(x) < 3).all())))
for _name in ('log', 'log2', 'log10', 'sqrt'):
    operation(_name, f'np.{_name}({{0}})', one('fc'), off_cut)
operation('log1p', 'np.log1p({0})', one('f'), lambda x: x + 0.9)
operation('arcsinh', 'np.arcsinh({0})', one('f'))
operation('arctan', 'np.arctan({0})', one('f'))
operation('arcsin', 'np.arcsin({0})', one('f'), inside(0.9))
operation('arccos', 'np.arccos({0})', one('f'), inside(0.9))
operation('arctanh', 'np.arctanh({0})', one('f'), inside(0.9))
operation('arccosh', 'np.arccosh({0})', one('f'), lambda x: x - 1.1)
operation('arccosh_shifted', 'np.arccosh({0} * {0} + 1.5)', one('f'))
operation('arcsin_of_tanh', 'np.arcsin(0.9 * np.tanh({0}))', one('f'))
operation('arccos_of_sin', 'np.arccos(0.9 * np.sin({0}))', one('f'))
operation('arctanh_of_sin', 'np.arctanh(0.8 * np.sin({0}))', one('f'))
operation('log_of_square', 'np.log({0} * {0} + 0.5)', one('f'))
operation('log10_of_square', 'np.log10({0} * {0} + 0.5)', one('f'))
operation('log2_of_square', 'np.log2(np.square({0}) + 0.5)', one('f'))
operation('log1p_of_square', 'np.log1p({0} ** 2)', one('f'))
operation('sqrt_of_square', 'np.sqrt({0} ** 2 + 0.3)', one('f'))
operation('tan', 'np.tan({0})', one('f'), lambda x: np.abs(np.cos(x)) - 0.3)
operation('tan_of_sin', 'np.tan(np.sin({0}))', one('f'))
operation('cbrt', 'np.cbrt({0})', one('f'), bigger(0.1))
operation('cbrt_of_exp', 'np.cbrt(np.exp({0}))', one('f', lambda x: bool((np.abs(x) < 3).all())))
operation('reciprocal', 'np.reciprocal({0})', one('fc'), bigger(0.2))
operation('reciprocal_of_square', 'np.reciprocal({0} * {0} + 0.7)', one('f'))
operation('negative', '-{0}', one('ifc'))
operation('absolute', 'np.abs({0})', one('fc'), zero)
operation('absolute_int', 'abs({0})', one('i'))
operation('sign', 'np.sign({0})', one('fc'), zero)
operation('sign_int', 'np.sign({0})', one('i'))
operation('floor', 'np.floor({0})', one('f'), integer)
operation('ceil', 'np.ceil({0})', one('f'), integer)
operation('trunc', 'np.trunc({0} * 2)', one('f'), lambda x: integer(2 * x))
operation('rint', 'np.rint({0} * 2)', one('f'), lambda x: half_integer(2 * x))
operation('stop_gradient', 'ft.stop_gradient(np.floor({0}))', one('f'), integer)
operation('conjugate', 'np.conj({0})', one('c'))
operation('real', '{0}.real', one('c'))
operation('imag', 'np.imag({0})', one('c'))
operation('angle', 'np.angle({0})', one('c'), off_cut)
operation('to_complex', "prim('complex', {0}, {1})", alike(2, 'f'))
operation('real_of_product', 'np.real(({0} + 1j) * np.exp(1j * {0}))', one('f'))
operation('imag_of_power', 'np.imag(np.conj({0} * (1 + 2j)) ** 2)', one('f'))
operation('polynomial', '3 * {0} ** 3 - 2 * {0} + 1', one('fc'))
operation('inverse_cube', '({0} * {0} + 1) ** -3', one('f'))
operation('integer_cube', '{0} ** 3', one('i'))

for _name in ('rsqrt',):
    operation(_name, f"prim('{_name}', {{0}} * {{0}} + {{0}}.dtype.type(0.4))", one('f'))
for _name in ('lgamma', 'digamma'):
    operation(_name, f"prim('{_name}', {{0}} * {{0}} + {{0}}.dtype.type(0.4))", one('f'))
operation('polygamma', "prim('polygamma', {0} * {0} + {0}.dtype.type(0.4), n={n})", one('f', n=lambda rng, x: int(rng.integers(1, 3))))
for _name in ('erf', 'erfc', 'logistic'):
    operation(_name, f"prim('{_name}', {{0}})", one('f'))
operation('erfinv', "prim('erfinv', np.tanh({0} / 2))", one('f', lambda x: bool((np.abs(x) < 3).all())))

operation('add', '{0} + {1}', broadcasting('ifc'))
operation('subtract', '{0} - {1}', broadcasting('ifc'))
operation('multiply', '{0} * {1}', broadcasting('ifc'))
operation('divide', '{0} / {1}', broadcasting('fc'), lambda x, y: np.abs(y) - 0.2)
operation('divide_safely', '{0} / ({1} * {1} + 0.5)', broadcasting('f'))
operation('maximum', 'np.maximum({0}, {1})', broadcasting('f'), tie)
operation('minimum', 'np.minimum({0}, {1})', broadcasting('f'), tie)
operation('maximum_int', 'np.maximum({0}, {1})', broadcasting('ib'))
operation('minimum_int', 'np.minimum({0}, {1})', broadcasting('ib'))
operation('maximum_shifted', 'np.maximum({0}, {1} - 1.7)', broadcasting('f'), lambda x, y: tie(x, y - 1.7))
operation('minimum_shifted', 'np.minimum({0}, {1} + 1.3)', broadcasting('f'), lambda x, y: tie(x, y + 1.3))
operation('power', '{0} ** {1}', broadcasting('f'), lambda x, y: np.minimum(x - 0.1, 3 - np.abs(y)))
operation('power_of_exp', 'np.power(np.exp(np.sin({0})), {1})', broadcasting('f'), lambda x, y: 3 - np.abs(y))
operation('arctan2', 'np.arctan2({0}, {1})', broadcasting('f'), lambda y, x: np.where(x > 0.1, 1, np.abs(y)))
operation('arctan2_right', 'np.arctan2({0}, {1} * {1} + 0.2)', broadcasting('f'))
operation('hypot', 'np.hypot({0}, {1})', broadcasting('f'), lambda x, y: np.hypot(x, y) - 0.2)
operation('logaddexp', 'np.logaddexp({0}, {1})', broadcasting('f'))
operation('copysign', 'np.copysign({0}, {1})', broadcasting('f'), lambda x, y: np.minimum(zero(x), zero(y)))
operation('nextafter', 'np.nextafter({0}, {1})', broadcasting('f'), tie)
operation('floor_divide', '{0} // {1}', broadcasting('f'), quotient)
operation('remainder', '{0} % {1}', broadcasting('f'), quotient)
operation('fmod', 'np.fmod({0}, {1})', broadcasting('f'), quotient)
operation('floor_divide_const', '{0} // 0.7', one('f'), lambda x: integer(x / 0.7))
operation('remainder_const', 'np.remainder({0}, 0.7)', one('f'), lambda x: integer(x / 0.7))
operation('fmod_const', 'np.fmod({0}, 0.7)', one('f'), lambda x: integer(x / 0.7))
operation('floor_divide_int', '{0} // (abs({1}) + 1)', broadcasting('i'))
operation('remainder_int', 'np.remainder({0}, abs({1}) + 2)', broadcasting('i'))
operation('clip', 'np.clip({0}, -0.6, 0.8)', one('f'), lambda x: np.minimum(tie(x, -0.6), tie(x, 0.8)))
operation('clamp', "prim('clamp', np.full_like({0}, -0.5), {0}, np.full_like({0}, 0.9))", one('f'), lambda x: np.minimum(tie(x, -0.5), tie(x, 0.9)))
operation('clamp_int', "prim('clamp', -abs({1}), {0}, abs({1}))", alike(2, 'i'))
operation('scale', "prim('scale', {0}, {1})", alike(2, 'fc'), lambda x, y: np.minimum(zero(x), zero(y)))
operation('scale_shifted', "prim('scale', np.exp(np.sin({0})), {1} * {1} + {1}.dtype.type(0.1))", alike(2, 'f'))

# -- comparisons, logic, integers ------------------------------------------------------------------

for _name in ('less', 'less_equal', 'greater', 'greater_equal', 'equal', 'not_equal'):
    operation(_name, f'np.{_name}({{0}}, {{1}})', broadcasting('f'), tie)
    operation(_name + '_int', f'np.{_name}({{0}}, {{1}})', broadcasting('ib'))
for _name in ('and', 'or', 'xor'):
    operation(_name, f'np.logical_{_name}({{0}}, {{1}})', broadcasting('b'))
    operation(_name + '_bits', f'np.bitwise_{_name}({{0}}, {{1}})', broadcasting('ib'))
operation('greater_than', '{0} > 0.1', one('f'), lambda x: tie(x, 0.1))
operation('not', '~{0}', one('ib'))
operation('shift_left', '({0} & 31) << (abs({1}) % 4)', alike(2, 'i'))
operation('shift_right', '{0} >> (abs({1}) % 4)', alike(2, 'i'))
operation('population_count', 'np.bitwise_count({0}).astype(np.int64)', one('i'))
operation('is_finite', 'np.isfinite({0})', one('fc'))
operation('is_nan', 'np.isnan({0})', one('fc'))
operation('signbit', 'np.signbit({0})', one('f'), zero)
operation('where', 'np.where({2}, {0}, {1})', where_operands)
operation('select', "prim('select', {0} > 0, np.sin({0}), {1})", alike(2, 'f'), lambda x, y: zero(x))
operation('bitcast', "prim('bitcast', np.floor({0}), dtype=np.dtype('{code}')).astype(np.int64) >> 40", one('f', lambda x: x.dtype.itemsize >= 4, code=lambda rng, x: f'i{x.dtype.itemsize}'), integer)
operation('threefry', "prim('threefry2x32', *[({0} + k).astype(np.uint32) for k in range(4)])[{k}].astype(np.int64) % 7", one('i', k=lambda rng, x: int(rng.integers(0, 2))))
operation('to_int', 'np.rint({0} * 3).astype(np.int64)', one('f'), lambda x: half_integer(3 * x))
operation('to_int32', 'np.floor({0} * 2).astype(np.int32)', one('f'), lambda x: integer(2 * x))
operation('to_float', '{0}.astype(np.{dtype})', to_float_operands)
operation('int_times_float', '{0} * {1}', mixed_operands)

# -- reductions and scans --------------------------------------------------------------------------

for _name, _kinds in (('sum', 'ifc'), ('mean', 'fc'), ('prod', 'f')):
    operation(_name, f'np.{_name}({{0}}, axis={{axis}}, keepdims={{keepdims}})', one(_kinds, has_axis, axis=some_axes, keepdims=flag))
for _name in ('max', 'min'):
    operation(_name, f'np.{_name}({{0}}, axis={{axis}})', one('f', has_axis, axis=some_axes), along)
    operation(_name + '_int', f'{{0}}.{_name}(axis={{axis}})', one('ib', has_axis, axis=some_axes))
    operation('arg' + _name, f'np.arg{_name}({{0}}, axis={{axis}})', one('f', has_axis, axis=axis), along)
operation('all', 'np.all({0}, axis={axis})', one('b', has_axis, axis=some_axes))
operation('any', '{0}.any(axis={axis})', one('b', has_axis, axis=some_axes))
operation('all_of_test', 'np.all({0} < 0.5, axis={axis})', one('f', has_axis, axis=axis), lambda x: tie(x, 0.5))
operation('any_of_test', 'np.any({0} > 0.3, axis={axis})', one('f', has_axis, axis=axis), lambda x: tie(x, 0.3))
operation('var', 'np.var({0}, axis={axis})', one('f', has_axis, axis=some_axes))
operation('cumsum', 'np.cumsum({0}, axis={axis})', one('ifc', has_axis, axis=axis))
operation('cumprod', 'np.cumprod({0}, axis={axis})', one('f', has_axis, axis=axis))
for _name in ('cumsum', 'cumprod', 'cumlogsumexp'):
    operation(f'{_name}_of', f'lax.{_name}({{0}}, axis={{axis}}, reverse={{reverse}})', one('f', has_axis, axis=own_axis, reverse=flag))
for _name in ('cummax', 'cummin'):
    operation(_name, f"prim('{_name}', {{0}}, axis={{axis}}, reverse={{reverse}})", one('f', has_axis, axis=own_axis, reverse=flag), along)
operation('reduce_prod', "prim('reduce_prod', np.cos({0}) + {0}.dtype.type(1.1), axes=({axis},))", one('f', has_axis, axis=own_axis))

# -- shape -------------------------------------------------------------------------------------------

operation('reshape', 'np.reshape({0}, {shape})', one('fcib', shape=new_shape))
operation('ravel', '{0}.ravel()', one('fci'))
operation('transpose', 'np.transpose({0}, {axes})', one('fci', axes=permutation))
operation('T', '{0}.T', one('fc'))
operation('swapaxes', 'np.swapaxes({0}, {a}, {b})', one('fi', has_axis, a=axis, b=axis))
operation('expand_dims', 'np.expand_dims({0}, {axis})', one('fc', has_axis, axis=axis))
operation('squeeze', 'np.squeeze({0})', one('fc'))
operation('broadcast_to', 'np.broadcast_to({0}, {shape})', one('fi', lambda x: x.size <= 20 and x.ndim <= 2, shape=grown_shape))
operation('concatenate', 'np.concatenate([{0}, {1}], axis={axis})', lambda stack: joined_operands(stack, 'fci'))
operation('stack', 'np.stack([{0}, {1}, {0}], axis={axis})', lambda stack: joined_operands(stack, 'f'))
operation('flip', 'np.flip({0}, axis={axis})', one('fi', has_axis, axis=some_axes))
operation('roll', 'np.roll({0}, {shift}, axis={axis})', one('f', has_axis, axis=axis, shift=lambda rng, x: int(rng.integers(-3, 4))))
operation('pad', 'np.pad({0}, {widths})', one('fi', has_axis, widths=pads))
operation('pad_interior', "prim('pad', {0}, {0}.dtype.type(0.5), low={low}, high={high}, interior={interior})", one('fc', has_axis, low=per_axis(0, 3), high=per_axis(0, 2), interior=per_axis(0, 3)))
operation('pad_value', "prim('pad', {0}, np.sum({0}), low={low}, high={high}, interior={interior})", one('f', has_axis, low=per_axis(0, 3), high=per_axis(0, 2), interior=per_axis(0, 3)))
operation('tile', 'np.tile({0}, 2)', one('f', has_axis))
operation('repeat', 'np.repeat({0}, 2, axis={axis})', one('f', has_axis, axis=axis))
operation('reverse', "prim('reverse', {0}, axes=({axis},))", one('fi', has_axis, axis=own_axis))
operation('iota', "{0} + prim('iota', shape={0}.shape, dtype={0}.dtype, axis={axis}) / {0}.dtype.type(3)", one('f', has_axis, axis=own_axis))

_windowed = one('fi', lambda x: x.ndim >= 1 and min(x.shape) >= 2 and x.size <= 24, s=lambda rng, x: int(rng.integers(1, 3)))
operation('windows', "prim('windows', {0}, window=(2,) * {0}.ndim, strides=({s},) * {0}.ndim, dilation=(1,) * {0}.ndim).sum(axis=-1)", _windowed)
operation('overlap', "prim('overlap', prim('windows', {0} * {0}, window=(2,) * {0}.ndim, strides=({s},) * {0}.ndim, dilation=(1,) * {0}.ndim), shape={0}.shape, strides=({s},) * {0}.ndim, dilation=(1,) * {0}.ndim)", _windowed)

# -- indexing ------------------------------------------------------------------------------------------

operation('getitem', '{0}[{index}]', one('fcib', has_axis, index=slices))
operation('getitem_fancy', '{0}[{index}]', one('fci', has_axis, index=fancy))
operation('getitem_traced', '({0} + 0 * {1}.sum().astype({0}.dtype))[abs({1}) % {n}]', traced_index_operands)
operation('getitem_one', '({0} + 0 * {1}.sum().astype({0}.dtype))[np.sum({1}) % {n}]', traced_index_operands)
operation('take', 'np.take({0}, {index}, axis={axis}, mode={mode})', take_operands)
operation('take_along', 'np.take_along_axis({0}, np.argsort({0}, axis={axis}), axis={axis})', one('f', has_axis, axis=axis), along)
operation('dynamic_slice', "prim('dynamic_slice', {0}, *[np.int64(1) * (np.sum({1}) - k) for k in range({0}.ndim)], sizes={sizes})", lambda stack: dynamic_operands(stack, False))
operation('dynamic_update_slice', "prim('dynamic_update_slice', {0}, np.sin({2}), *[np.int64(1) * (np.sum({1}) - k) for k in range({0}.ndim)])", lambda stack: dynamic_operands(stack, True))
operation('gather', "prim('gather', {0}, {1}, axes=({axis},), mode={mode})", gather_operands)
for _name in ('scatter', 'scatter_add', 'scatter_mul', 'scatter_min', 'scatter_max'):
    operation(_name, f"prim('{_name}', {{0}}, {{2}}, {{1}}, axes=({{axis}},), mode={{mode}})", lambda stack, _name=_name: scatter_operands(stack, _name), (lambda x, i, u: neighbours(np.concatenate([x.ravel(), u.ravel()]))) if _name in ('scatter_min', 'scatter_max') else None)

# -- contractions, order --------------------------------------------------------------------------------

operation('matmul', '{0} @ {1}', matmul_operands)
operation('matmul_transposed', '{0} @ np.swapaxes({0}, -1, -2)', one('fc', lambda x: x.ndim >= 2))
operation('dot', 'np.dot({0}, {0})', one('fc', vector))
operation('outer', 'np.outer({0}, np.sin({0}))', one('f', lambda x: 1 <= x.size <= 8))
operation('tensordot', 'np.tensordot({0}, {0}, axes={pairs})', one('f', has_axis, pairs=lambda rng, x: ([own_axis(rng, x)],) * 2))
operation('einsum', "np.einsum('ij,kj->ki', {0}, {1})", two_matrices_operands)
operation('dot_general', "prim('dot_general', {0}, {1}, contract=((1,), (1,)), batch=((0,), (0,)))", lambda stack: two_alike_operands(stack, matrix))
operation('conv', "prim('conv', {0}[None, None], np.cos({1})[None, None], strides=({s},), padding=(({p}, 1),), lhs_dilation=({d},), rhs_dilation=(1,), groups=1, batch_groups=1)[0, 0]", conv_operands)
operation('sort', 'np.sort({0}, axis={axis})', one('f', has_axis, axis=axis), along)
operation('sort_two', "prim('sort', {0}, {1}, axis={axis}, num_keys=1)[1]", sort_two_operands, lambda x, y: neighbours(x))
operation('argsort', 'np.argsort({0}, axis={axis})', one('f', has_axis, axis=axis), along)
operation('top_k', "prim('top_k', {0}, k={k})[{which}]", one('f', has_axis, k=lambda rng, x: int(rng.integers(1, x.shape[-1] + 1)), which=lambda rng, x: int(rng.integers(0, 2))), along)

# -- writes in place ---------------------------------------------------------------------------------------

_writable = one("f", has_axis, index=view)
operation('write', '{out} = {0}.copy()\n{out}[{index}] = 0.5', _writable)
operation('write_value', '{out} = {0} * 1\n{out}[{k}] = np.sin({out}[{j}])', one('f', has_axis, k=lambda rng, x: int(rng.integers(-x.shape[0], x.shape[0])), j=lambda rng, x: int(rng.integers(-x.shape[0], x.shape[0]))))
operation('write_add', '{out} = {0} + 0\n{out}[{index}] += np.cos({out}[{index}])', _writable)
operation('write_scaled', '{out} = {0} + 0\n{out}[{index}] *= -1.5', _writable)
operation('write_whole', '{out} = np.zeros_like({1}) + {0}\n{out} -= {1}\n{out} /= 2', alike(2, 'f'))
operation('write_zeros', '{out} = np.zeros_like({0})\n{out}[{index}] = {0}[{index}] ** 2\n{out}[0] += 1', _writable)
operation('write_new', '{out} = np.zeros(({n}, 2)) + {0}[0].sum()\n{out}[:, 0] = {0}.sum()\n{out}[-1] *= {0}.ravel()[0]', one('f', lambda x: has_axis(x) and x.dtype == np.float64, n=lambda rng, x: int(rng.integers(1, 4))))
operation('write_fancy', '{out} = {0}.copy()\n{out}[{index}] = {out}[{index}] * 2 + 1', one('f', has_axis, index=fancy))
operation('write_masked', '{out} = {0}.copy()\n{out}[{0} > 0.2] = -0.3', one('f', has_axis), lambda x: tie(x, 0.2))
operation('write_traced', '{out} = {0} + 0 * {1}.sum().astype({0}.dtype)\n{out}[abs({1}) % {n}] = 0.25', traced_index_operands)
operation('view_write', '{out} = {0}.copy()\nw = {out}[{index}]\nw[...] = w * w - 1', _writable)
operation('view_of_view', '{out} = {0} * 2\nw = {out}.T\nv = w[..., ::-1]\nv += 0.1\n{out}[{index}] *= v.sum()', _writable)
operation('view_reshape', '{out} = {0}.copy()\nw = {out}.reshape(-1)\nw[::2] = np.tanh(w[::2])\n{out} *= 1.5', one('f', has_axis))
operation('view_read', 't = {0}.copy()\nw = t[{index}]\nt[{again}] = 0.125\n{out} = w * 3 + 1', one('f', has_axis, index=view, again=view))
operation('out_argument', '{out} = np.empty_like({0} + {1})\nnp.multiply({0}, {1}, out={out})', alike(2, 'f'))
operation('fill_diagonal', '{out} = np.eye({n}) * {0}.sum()\n{out}[np.arange({n}), np.arange({n})] += 1', one('f', lambda x: x.dtype == np.float64, n=lambda rng, x: int(rng.integers(1, 4))))
operation('loop_writes', '{out} = np.zeros_like({0})\nfor i in range(len({0})):\n    {out}[i] = {out}[i - 1] * 0.5 + {0}[i]', one('f', has_axis))

# -- folds -------------------------------------------------------------------------------------------------------

operation('associative_scan', 'lax.associative_scan(np.{fold}, {0}, reverse={reverse}, axis={axis})', one('f', has_axis, fold=lambda rng, x: ['add', 'multiply'][int(rng.integers(0, 2))], reverse=flag, axis=axis))
operation('reduce', 'lax.reduce({0}, 1.0, lambda a, b: a * b + np.sin(a * b) * 0, (0,))', one('f', has_axis))

# -- effects and named axes ----------------------------------------------------------------------------------

operation('debug_callback', "{out} = {0} * 2\nprim('debug_callback', {out}, callback=lambda x: None, ordered={ordered})", one('f', ordered=flag))
operation('pure_callback', "prim('pure_callback', {0}, **polynomial({0}))", one('f', lambda x: x.dtype == np.float64 and x.size <= 6))
operation('io_callback', "{0} * prim('io_callback', ft.stop_gradient({0}), **ones_for({0}, {ordered}))", one('f', ordered=flag))
_rows = one("f", lambda x: has_axis(x) and x.ndim >= 1 and x.size <= 40)
operation('psum', "ft.vmap(lambda r: np.sin(r) * prim('psum', r * 1.0, axis_name='i'), axis_name='i')({0})", _rows)
operation('pmax', "ft.vmap(lambda r: prim('pmax', r * 2.0, axis_name='i') - r, axis_name='i')({0})", _rows, neighbours)
operation('pmin', "ft.vmap(lambda r: np.cos(prim('pmin', r * 2.0, axis_name='i')) + r, axis_name='i')({0})", _rows, neighbours)
operation('all_gather', "ft.vmap(lambda r: np.sin(prim('all_gather', r * 1.0, axis_name='i', axis=0, size={n})).sum() * r, axis_name='i')({0})", one('f', lambda x: has_axis(x) and x.size <= 20, n=lambda rng, x: x.shape[0]))
operation('axis_index', "ft.vmap(lambda r: r * prim('axis_index', axis_name='i', size={n}), axis_name='i')({0})", one('f', has_axis, n=lambda rng, x: x.shape[0]))

# -- transforms, each of a function that may close over the stack ----------------------------------------------

_argument = one("f", small)
operation('grad', 'ft.grad({g})({0})', _argument, body='scalar')
operation('value_and_grad', 'ft.value_and_grad({g})({0})[1]', _argument, body='scalar')
operation('jvp', 'ft.jvp({g}, ({0},), ({1},))[1]', lambda stack: two_small_operands(stack), body='float')
operation('linearize', 'ft.linearize({g}, {0})[1]({1})', lambda stack: two_small_operands(stack), body='float')
operation('vjp', 'pulled({g}, {0})', _argument, body='float')
operation('jacfwd', 'ft.jacfwd({g})({0})', _argument, body='float')
operation('jacrev', 'ft.jacrev({g})({0})', _argument, body='float')
operation('hessian', 'ft.hessian({g})({0})', one('f', lambda x: 1 <= x.size <= 3), body='scalar')
operation('hvp', 'ft.hvp({g}, {0}, {1})', lambda stack: two_small_operands(stack), body='scalar')
operation('vmap', 'ft.vmap({g})({0})', one('f', lambda x: has_axis(x) and x.shape[0] <= 4), body='member')
operation('vmap_last', 'ft.vmap({g}, in_axes=-1, out_axes=-1)({0})', one('f', lambda x: has_axis(x) and x.ndim >= 2 and (x.shape[-1] <= 4)), body='last member')
operation('jit', 'ft.jit({g})({0})', _argument, body='float')
operation('checkpoint', 'ft.checkpoint({g})({0})', _argument, body='float')
operation('custom_jvp', 'custom_jvp_of({g})({0})', _argument, body='closed')
operation('custom_vjp', 'custom_vjp_of({g})({0})', _argument, body='closed')
_few_rows = one("f", lambda x: has_axis(x) and x.shape[0] <= 4)
operation('scan', 'scanned({g}, {0}, {reverse})', one('f', lambda x: has_axis(x) and x.shape[0] <= 4, reverse=flag), body='member')
operation('fori', 'accumulated({g}, {0})', _few_rows, body='member')
operation('while', 'some_rows({g}, {0})', _few_rows, lambda x: tie(x, 0), body='member')
operation('map', 'lax.map({g}, {0}, batch_size={n})', one('f', lambda x: has_axis(x) and x.shape[0] <= 4, n=lambda rng, x: [None, 1, 2][int(rng.integers(0, 3))]), body='member')
operation('cond', 'either({g}, {0})', _argument, lambda x: tie(np.sum(x), 0), body='float')
operation('switch', 'switched({g}, {0})', _argument, lambda x: tie(x, 0), body='float')
operation('call_twice', '{g}({0}) + {g}({1})', lambda stack: two_small_operands(stack), body='float')

# -- constants (put on the stack by the rules above) -------------------------------------------------------------

operation('const', 'const({seed}, {shape}, {dtype}, {low}, {high})', lambda stack: None)

LOOPING = ["scan", "fori", "while", "map", "cond", "switch", "associative_scan", "reduce"]
"""Loops, branches and folds by functions of the library: only some programs hold them."""
CHOSEN = [name for name in OPERATIONS if name != "const" and name not in LOOPING]
TRANSFORMS = [name for name in CHOSEN if OPERATIONS[name].body]

# -- what asks for values ------------------------------------------------------------------------------

# fmt: off
operation('ask_if', 'if np.sum({0}) > 0.3:\n    {out} = np.sin({0}) * 2\nelse:\n    {out} = {0} * {0}', one('f'), lambda x: tie(np.sum(x), 0.3))
operation('ask_while', '{out} = {0}\nwhile np.sum({out} * {out}) > 0.5:\n    {out} = np.sin({out}) * 0.7', one('f', small), halvings)
operation('ask_range', '{out} = {0}\nfor _ in range(int(np.floor(np.sum({0}))) % 3):\n    {out} = np.cos({out}) + {0}', one('f'), lambda x: integer(np.sum(x)))
operation('ask_place', '{0}.ravel()[int(np.argmax({0}))] * {0}', one('f', lambda x: x.size > 0), lambda x: neighbours(x))
operation('ask_item', '{0} * (2.0 if {0}.sum().item() > 0 else {0})', one('f'), lambda x: tie(np.sum(x), 0))
operation('ask_assert', 'assert np.isfinite({0}).all()\n{out} = np.tanh({0})', one('f'))
operation('ask_min', 'min(np.sum({0}), np.sum({1})) * np.ones_like({0})', lambda stack: two_alike_operands(stack, small), lambda x, y: tie(np.sum(x), np.sum(y)))
operation('ask_sorted', 'np.stack(sorted({0}.ravel()))', one('f', lambda x: 1 <= x.size <= 4), lambda x: neighbours(x))
# fmt: on
ASKING = [name for name in OPERATIONS if name.startswith("ask_")]
ASKED_IN = {"grad", "value_and_grad", "jvp", "linearize", "vjp", "jacfwd", "jacrev", "hessian"} | {
    *("hvp", "call_twice", "custom_jvp", "custom_vjp"),
}
"""The transforms inside of which values may be asked for."""

operation("finish_sum", "np.sum({0})", lambda stack: None)
operation("finish_total", "total({0})", lambda stack: None)
