"""Mistakes that users make, as they would type them, and the messages that they get.

python -m tests.mistakes            prints the transcript
python -m tests.mistakes --write    writes it to mistakes.txt, with which a test compares it
"""

import contextlib
import functools
import io
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from xent_jax.proofs.__main__ import main as xent_prove

import xent_jax
from xent_jax import _shards, proofs

TRANSCRIPT = Path(__file__).with_name("mistakes.txt")
OURS = tuple(str(Path(m.__file__).parent) for m in (xent_jax, proofs))

HEAD = "linear_softmax_cross_entropy"
INTEGER = "softmax_cross_entropy_with_integer_labels"


class Mistake(NamedTuple):
    """What was typed, what the message begins with and has, and why it is not ours, if it is not."""

    title: str
    typed: str
    begins: str  # with the function and the argument
    has: str  # what came
    whose: str = ""


class NamedArray:
    """Holds an array as the class of haliax does."""

    def __init__(self, array):
        self.array = array

    def __repr__(self):
        return f"{type(self).__name__}(...)"


class Partitioned:
    """Holds an array as the class of flax does; the test of flax's own is in test_wrapped_arrays."""

    def __init__(self, value):
        self.value = value

    def unbox(self):
        return self.value

    __repr__ = NamedArray.__repr__


@jax.custom_vjp
def squared(z):
    """Has a backward without its factor 2."""
    return z**2


squared.defvjp(lambda z: (z**2, z), lambda z, g: (g * z,))


def of_layer(kernel, inputs, labels):
    """The losses of a layer without a bias."""
    return xent_jax.softmax_cross_entropy_with_integer_labels(inputs @ kernel, labels)


class Told(NamedTuple):
    """What the user saw."""

    text: str
    message: str
    ours: bool  # raised in a file of ours, or the command's one line
    chained: bool  # another traceback stands above it


M = Mistake
SHARD = f"shard_linear_head({HEAD}, mesh, inputs=P('data'), kernel=P(None, 'model'))"
SPECS = "{'z': array('n k'), 'y': labels('n', classes='k')}"
TYPE_SYSTEM = "Python's own: the call does not reach us"
MISTAKES = [
    # ------------------------------------------------------------ losses of logits
    M("An axis that is not there", f"{INTEGER}(logits, labels, axis=2)",
      f"{INTEGER}: axis must name axes of logits", "got 2"),
    M("An axis twice", "softmax(logits, axis=(1, -1))", "softmax: axis must not repeat", "(1, -1)"),
    M("The reduction in the place of the axis", f"{INTEGER}(logits, labels, 'mean')",
      f"{INTEGER}: axis must be an int", "'mean'"),
    M("A one-hot for the integer loss", f"{INTEGER}(logits, onehot)",
      f"{INTEGER}: labels must be an integer array", "float32[8,10]"),
    M("A one-hot of integers for the integer loss", f"{INTEGER}(logits, onehot.astype(int))",
      f"{INTEGER}: labels must have shape [8]", "int32[8,10]"),
    M("Class indices as floats", f"{INTEGER}(logits, labels.astype(float))",
      f"{INTEGER}: labels must be an integer array", "float32[8]"),
    M("Class indices for soft labels", "softmax_cross_entropy(logits, labels)",
      "softmax_cross_entropy: labels must be probabilities", "int32[8]"),
    M("Labels with a last axis of 1", f"{INTEGER}(logits, labels[:, None])",
      f"{INTEGER}: labels must have shape [8]", "int32[8,1]"),
    M("Half a batch of logits", f"{INTEGER}(logits[:4], labels)",
      f"{INTEGER}: labels must have shape [4]", "int32[8]"),
    M("Soft labels of another number of classes", "softmax_cross_entropy(logits, onehot[:, :9])",
      "softmax_cross_entropy: labels must broadcast", "float32[8,9]"),
    M("Labels first", f"{INTEGER}(labels, logits)", f"{INTEGER}: logits must be a floating", "int32[8]"),
    M("Logits of integers", "softmax(jnp.arange(10))", "softmax: logits must be a floating", "int32[10]"),
    M("Logits of complex numbers", "softmax(logits + 1j)", "softmax: logits must be real", "complex64[8,10]"),
    M("A list of integers", "softmax([1, 2, 3])", "softmax: logits must be a floating", "int32[3]"),
    M("A ragged list", "softmax([[1.0, 2.0], [3.0]])", "softmax: logits must be an array of numbers",
      "[[1.0, 2.0], [3.0]]"),
    M("Names for labels", f"{INTEGER}(logits[:2], ['cat', 'dog'])",
      f"{INTEGER}: labels must be an array of numbers", "['cat', 'dog']"),
    M("No logits", "softmax(None)", "softmax: logits must be an array of numbers", "got None"),
    M("A scalar for logits", f"{INTEGER}(jnp.float32(1.0), 0)", f"{INTEGER}: logits must have a class axis", "scalar"),
    M("No classes", f"{INTEGER}(logits[:, :0], labels)", f"{INTEGER}: logits must have at least one class",
      "float32[8,0]"),
    M("A mask of another shape", f"{INTEGER}(logits, labels, where=jnp.ones(7, bool))",
      f"{INTEGER}: where must broadcast to the shape of the examples, [8]", "bool[7]"),
    M("A mask of floats", f"{INTEGER}(logits, labels, where=jnp.ones(8))",
      f"{INTEGER}: where must be a boolean array",
      "float32[8]. A mask says what takes part; for weights, the losses that have a reduction take weights="),
    M("A mask of integers", f"{INTEGER}(logits, labels, where=jnp.ones(8, int))",
      f"{INTEGER}: where must be a boolean array", "int32[8]. Compare it with zero: where != 0."),
    M("A box of flax for logits", f"{INTEGER}(Partitioned(logits), labels)",
      f"{INTEGER}: logits must be an array of numbers", "pass logits.unbox()"),
    M("A named array of haliax for logits", f"{INTEGER}(NamedArray(logits), labels)",
      f"{INTEGER}: logits must be an array of numbers", "got NamedArray(...). It holds an array: pass logits.array."),
    M("A binary label for each row of a column", "sigmoid_binary_cross_entropy(logits[:, :1], labels)",
      "sigmoid_binary_cross_entropy: labels must broadcast", "int32[8]"),
    M("Divergence from class indices", "kl_divergence(jnp.log(onehot), labels)",
      "kl_divergence: targets must be a floating", "int32[8]"),
    # ------------------------------------------------------------ options
    M("An option that is not there", "softmax_cross_entropy(logits, onehot, smoothing=0.1)",
      "softmax_cross_entropy: got an unexpected keyword argument", "'smoothing'"),
    M("A reduction that is not there", f"{INTEGER}(logits, labels, reduction='batchmean')",
      f"{INTEGER}: reduction must be one of 'none', 'sum', 'mean'", "'batchmean'"),
    M("A function for the reduction", f"{INTEGER}(logits, labels, reduction=jnp.mean)",
      f"{INTEGER}: reduction must be one of", "the function mean"),
    M("Smoothing above 1", f"{INTEGER}(logits, labels, label_smoothing=10)",
      f"{INTEGER}: label_smoothing must be from 0 to 1", "got 10"),
    M("Smoothing for each example", f"{INTEGER}(logits, labels, label_smoothing=jnp.full(8, 0.1))",
      f"{INTEGER}: label_smoothing must be a number", "float32[8]"),
    M("A negative z-loss", f"{INTEGER}(logits, labels, z_loss=-1e-4)", f"{INTEGER}: z_loss must be at least 0",
      "-0.0001"),
    M("Weights for too few classes", f"{INTEGER}(logits, labels, class_weights=jnp.ones(9))",
      f"{INTEGER}: class_weights must have shape [10]", "float32[9]"),
    M("Weights in a dictionary", f"{INTEGER}(logits, labels, class_weights={{0: 1.0, 1: 2.0}})",
      f"{INTEGER}: class_weights must be an array", "{0: 1.0, 1: 2.0}"),
    M("Two ignored labels", f"{INTEGER}(logits, labels, ignore_index=[0, -100])",
      f"{INTEGER}: ignore_index must be an int or None", "[0, -100]"),
    M("An ignored label that the labels cannot hold", f"{INTEGER}(logits, labels.astype(jnp.uint8), ignore_index=-100)",
      f"{INTEGER}: ignore_index=-100 cannot occur", "uint8"),
    M("jit that traces an option", f"jax.jit({INTEGER})(logits, labels, ignore_index=-100)",
      f"{INTEGER}: ignore_index must be an int or None", "a traced int32[]"),
    M("jit that is given a string", f"jax.jit({INTEGER})(logits, labels, reduction='mean')",
      "Error interpreting argument", "reduction", "JAX's own: jit reads its arguments before it calls us"),
    M("A wrong shape inside jit", f"jax.jit({INTEGER})(logits, labels[:3])", f"{INTEGER}: labels must have shape [8]",
      "int32[3]"),
    M("A negative gamma", "softmax_focal_loss(logits, labels, gamma=-2)", "softmax_focal_loss: gamma must be at least 0",
      "-2"),
    M("Alpha in per cent", "sigmoid_focal_loss(logits, onehot, alpha=25)", "sigmoid_focal_loss: alpha must be from 0 to 1",
      "25"),
    M("A cap of 0", "softcap(logits, 0.0)", "softcap: cap must be above 0", "got 0"),
    M("A mesh axis outside shard_map", f"{INTEGER}(logits, labels, axis_name='model')",
      f"{INTEGER}: axis_name must be a mesh axis", "'model'"),
    M("Forward mode", "jax.jvp(softmax, (logits,), (logits,))", "can't apply forward-mode", "custom_vjp",
      "JAX's own, with a note of ours: a custom_vjp cannot say it otherwise"),
    M("Forward mode of what jit has compiled", "jax.jvp(jax.jit(softmax), (logits,), (logits,))",
      "can't apply forward-mode", "custom_vjp", "JAX's own: it comes after us; the README says it under Use"),
    # ------------------------------------------------------------ the linear head
    M("The kernel transposed", f"{HEAD}(inputs, kernel.T, labels)", f"{HEAD}: inputs must have the shape [..., D] and kernel",
      "float32[8,16] and float32[10,16]. Give kernel.T"),
    M("A kernel of another width", f"{HEAD}(inputs, kernel[:12], labels)",
      f"{HEAD}: inputs must have the shape [..., D] and kernel", "float32[8,16] and float32[12,10]"),
    M("A kernel that lies the other way", f"{HEAD}(inputs, kernel, labels, kernel_axes='VD')",
      f"{HEAD}: inputs must have the shape [..., D] and kernel [classes, D]", "or kernel_axes='DV'"),
    M("A kernel of one axis", f"{HEAD}(inputs, kernel[0], labels)",
      f"{HEAD}: inputs must have the shape [..., D] and kernel", "float32[8,16] and float32[10]"),
    M("A kernel without classes", f"{HEAD}(inputs, kernel[:, :0], labels)", f"{HEAD}: kernel must have at least one class",
      "float32[16,0]"),
    M("Tokens for inputs", f"{HEAD}(labels, kernel, labels)", f"{HEAD}: inputs must be a floating", "int32[8]"),
    M("Labels of fewer tokens", f"{HEAD}(inputs, kernel, labels[1:])", f"{HEAD}: labels must have one entry for each token",
      "int32[7]"),
    M("One-hot labels for the head", f"{HEAD}(inputs, kernel, onehot)", f"{HEAD}: labels must be an integer array",
      "float32[8,10]"),
    M("A bias for each token", f"{HEAD}(inputs, kernel, labels, bias=jnp.zeros(8))", f"{HEAD}: bias must have shape [10]",
      "float32[8]"),
    M("A mask of classes for the head", f"{HEAD}(inputs, kernel, labels, where=onehot > 0)",
      f"{HEAD}: where must broadcast to the shape of the tokens, [8]", "bool[8,10]. It cannot mask classes"),
    M("Weights of tokens for the head's mask", f"{HEAD}(inputs, kernel, labels, where=jnp.full(8, 0.3))",
      f"{HEAD}: where must be a boolean array", "the losses that have a reduction take weights="),
    M("A reduction that the head does not have", f"{HEAD}(inputs, kernel, labels, reduction='avg')",
      f"{HEAD}: reduction must be one of", "'avg'"),
    M("Weights of tokens for those of the head's classes", f"{HEAD}(inputs, kernel, labels, class_weights=jnp.ones(8))",
      f"{HEAD}: class_weights must have shape [10]", "float32[8]"),
    M("Smoothing above 1 in the head", f"{HEAD}(inputs, kernel, labels, label_smoothing=2.0)",
      f"{HEAD}: label_smoothing must be from 0 to 1", "got 2"),
    M("An ignored label of the head that is half an integer", f"{HEAD}(inputs, kernel, labels, ignore_index=0.5)",
      f"{HEAD}: ignore_index must be an int", "got 0.5"),
    M("A mask for the weights of tokens", f"{HEAD}(inputs, kernel, labels, weights=labels > 2)",
      f"{HEAD}: weights must be a floating-point array", "bool[8]. A boolean mask is the argument where"),
    M("Weights of classes for those of tokens", f"{HEAD}(inputs, kernel, labels, weights=jnp.ones(10))",
      f"{HEAD}: weights must broadcast to the shape of the losses, [8]", "float32[10]"),
    M("A beta that means a KL divergence", "softmax_jensen_shannon_divergence(logits, logits, beta=0)",
      "softmax_jensen_shannon_divergence: beta must be above 0 and below 1", "got 0.0 in float32"),
    M("A temperature of 0", f"{HEAD}(inputs, kernel, labels, temperature=0.0)", f"{HEAD}: temperature must be above 0", "got 0"),
    M("A box of flax for the head's kernel", f"{HEAD}(inputs, Partitioned(kernel), labels)",
      f"{HEAD}: kernel must be an array of numbers", "pass kernel.unbox()"),
    M("A budget below one token", f"{HEAD}(inputs, kernel, labels, max_logits_bytes=64)",
      f"{HEAD}: max_logits_bytes must hold the logits of one token", "got 64"),
    M("A budget of floats", f"{HEAD}(inputs, kernel, labels, max_logits_bytes=256e6)",
      f"{HEAD}: max_logits_bytes must hold", "256000000.0"),
    M("A budget that jit traces", f"jax.jit({HEAD})(inputs, kernel, labels, max_logits_bytes=2**20)",
      f"{HEAD}: max_logits_bytes must hold", "a traced int32[]"),
    M("More classes than the kernel has", f"{HEAD}(inputs, kernel, labels, num_classes=11)",
      f"{HEAD}: num_classes must be an integer from 1 to 10", "got 11"),
    M("A number of classes in words", f"{HEAD}(inputs, kernel, labels, num_classes='ten')",
      f"{HEAD}: num_classes must be an integer", "'ten'"),
    M("A dtype of integers for the products", f"{HEAD}(inputs, kernel, labels, dtype=jnp.int8)",
      f"{HEAD}: dtype must be a floating-point dtype", "int8"),
    M("A dtype that is none", f"{HEAD}(inputs, kernel, labels, dtype='bf16')",
      f"{HEAD}: dtype must be a floating-point dtype", "'bf16'"),
    M("A negative soft cap", f"{HEAD}(inputs, kernel, labels, logit_softcap=-30.0)", f"{HEAD}: logit_softcap must be above 0",
      "-30"),
    M("A way to lie that is not there", f"{HEAD}(inputs, kernel, labels, kernel_axes='vd')",
      f"{HEAD}: kernel_axes must be one of 'DV', 'VD'", "'vd'"),
    M("More of the likeliest than there are", "linear_token_statistics(inputs, kernel, labels, top_k=11)",
      "linear_token_statistics: top_k must be an integer in [0, 10]", "got 11"),
    M("A negative number of the likeliest", "linear_token_statistics(inputs, kernel, labels, top_k=-1)",
      "linear_token_statistics: top_k must be an integer in [0, 10]", "got -1"),
    M("A number of the likeliest as a float", "linear_token_statistics(inputs, kernel, labels, top_k=2.0)",
      "linear_token_statistics: top_k must be an integer in [0, 10]", "got 2.0"),
    M("A number of the likeliest in words", "linear_token_statistics(inputs, kernel, labels, top_k='3')",
      "linear_token_statistics: top_k must be an integer in [0, 10]", "got '3'"),
    M("A mask of classes for statistics", "token_statistics(logits, labels, where=logits > 0)",
      "token_statistics: where must broadcast to the shape of the tokens, [8]", "-inf"),
    M("A number of the likeliest that jit traces",
      "jax.jit(token_statistics)(logits, labels, top_k=2)",
      "token_statistics: top_k must be an integer in [0, 10]", "pass static_argnames='top_k' to jax.jit"),
    M("A value for a loss", f"with_linear_head({INTEGER}(logits, labels))", "with_linear_head: loss must be a function",
      "Array("),
    M("Targets of fewer tokens", f"with_linear_head({INTEGER})(inputs, kernel, labels[:4])",
      "with_linear_head: targets must have one entry for each token", "int32[4]"),
    M("A loss that has taken the mean", "with_linear_head(lambda z, y: jnp.mean(z))(inputs, kernel, labels)",
      "with_linear_head: loss must give one number for each token", "float32[]"),
    M("Aux that is not there", f"with_linear_head({INTEGER}, has_aux=True)(inputs, kernel, labels)",
      "with_linear_head: loss must give a pair (losses, aux) with has_aux=True", "a traced float32[8]"),
    M("Aux of a chunk", "with_linear_head(lambda z, y: (z[:, 0], jnp.mean(z)), has_aux=True)(inputs, kernel, labels)",
      "with_linear_head: aux must hold arrays with one entry for each token", "float32[]"),
    M("A name for has_aux", f"with_linear_head({INTEGER}, has_aux='accuracy')",
      "with_linear_head: has_aux must be True or False", "'accuracy'"),
    M("A number for a transform", f"with_linear_head({INTEGER}, logit_transform=30.0)",
      "with_linear_head: logit_transform must be a function", "30.0"),
    M("A loss's option for the head", f"with_linear_head({INTEGER})(inputs, kernel, labels, ignore_index=0)",
      "with_linear_head: the head takes inputs, kernel, targets, bias, where and weights", "got ignore_index"),
    M("Shapes in place of arrays", "linear_head_plan((8, 16), (16, 10))", "linear_head_plan: inputs must be an array",
      "(8, 16)"),
    M("A plan of another function", "linear_head_plan(inputs, kernel, head=softmax_focal_loss)",
      f"linear_head_plan: head must be {HEAD} or linear_token_statistics", "softmax_focal_loss"),
    M("A plan of JAX's function", "linear_head_plan(inputs, kernel, head=jnp.mean)", "linear_head_plan: head must be", "mean"),
    M("A plan of no function", "linear_head_plan(inputs, kernel, head=None)", "linear_head_plan: head must be", "None"),
    M("A plan for options in a string", "linear_head_plan(inputs, kernel, options='where')",
      "linear_head_plan: options must hold names of", "'where'"),
    M("A plan for what is no option", "linear_head_plan(inputs, kernel, options=['cap'])",
      "linear_head_plan: options must hold names of", "['cap']"),
    M("A plan for an argument as an option", "linear_head_plan(inputs, kernel, options=['labels'])",
      "linear_head_plan: options must hold names of", "['labels']"),
    M("A plan of the kernel transposed", "linear_head_plan(inputs, kernel.T)", "linear_head_plan: inputs must have the shape",
      "Give kernel.T"),
    M("A plan for gradients in a string", "linear_head_plan(inputs, kernel, wrt='inputs')",
      "linear_head_plan: wrt must hold names of", "'inputs'"),
    M("A gradient to what is no argument", "linear_head_plan(inputs, kernel, wrt=('weights',))",
      "linear_head_plan: wrt must hold names of", "('weights',)"),
    # ------------------------------------------------------------ losses in chunks
    M("A number for a loss in chunks", "chunked_loss(3)", "chunked_loss: loss must be a function of parameters and arrays", "got 3"),
    M("A word for has_aux in chunks", "chunked_loss(of_layer, has_aux='yes')", "chunked_loss: has_aux must be True or False",
      "'yes'"),
    M("Labels of fewer tokens in chunks", "chunked_loss(of_layer)(kernel, inputs, labels[:3])",
      "chunked_loss: arrays must have one entry for each token along their first axis",
      "float32[8,16], int32[3]. Give [batch, length, ...] as x.reshape(-1, *x.shape[2:])"),
    M("A loss in chunks of nothing", "chunked_loss(of_layer)(kernel)", "chunked_loss: arrays must have one entry for each token",
      "axis, got none."),
    M("A function among the parameters", "chunked_loss(of_layer)({'kernel': print}, inputs, labels)",
      "chunked_loss: params must be an array of numbers, or a list of them", "got the function print"),
    M("A loss's option for the loss in chunks", "chunked_loss(of_layer)(kernel, inputs, labels, z_loss=1)",
      "chunked_loss: the function takes params, arrays, where and weights",
      "got z_loss. Give an option of the loss to the loss: chunked_loss(functools.partial(loss, z_loss=...))"),
    M("A mask of another shape in chunks", "chunked_loss(of_layer)(kernel, inputs, labels, where=jnp.ones(3, bool))",
      "chunked_loss: where must broadcast to the shape of the tokens, [8]", "got bool[3]"),
    M("Weights of integers in chunks", "chunked_loss(of_layer)(kernel, inputs, labels, weights=labels)",
      "chunked_loss: weights must be a floating-point array", "int32[8]"),
    M("A budget below one token in chunks", "chunked_loss(of_layer, max_logits_bytes=3)(kernel, inputs, labels)",
      "chunked_loss: max_logits_bytes must hold the largest array of one token and its gradient",
      "bytes, and be an integer, got 3"),
    M("A loss in chunks that has taken the sum", "chunked_loss(lambda w, x, y: jnp.sum(x @ w))(kernel, inputs, labels)",
      "chunked_loss: loss must give one number for each token", "float32[]"),
    M("A loss in chunks of integers", "chunked_loss(lambda w, x, y: y)(kernel, inputs, labels)",
      "chunked_loss: loss must give floating-point numbers", "got int32["),
    M("Aux that is not there in chunks", "chunked_loss(of_layer, has_aux=True)(kernel, inputs, labels)",
      "chunked_loss: loss must give a pair (losses, aux) with has_aux=True", "a traced float32["),
    M("Aux of a chunk of tokens", "chunked_loss(lambda *a: (of_layer(*a), 1.0), has_aux=True)(kernel, inputs, labels)",
      "chunked_loss: aux must hold arrays with one entry for each token", "1.0"),
    # ------------------------------------------------------------ on a mesh
    M("A head of one's own", f"shard_linear_head({INTEGER}, mesh, inputs=P('data'), kernel=P(None, 'model'))",
      "shard_linear_head: head must be", INTEGER),
    M("A head that knows no mesh axis of its classes",
      f"shard_linear_head(with_linear_head({INTEGER}), mesh, inputs=P('data'), kernel=P(None, 'model'))(inputs, kernel, labels)",
      "shard_linear_head: with_linear_head, and the loss that it is given, must have the axis_name", "'model', got None"),
    M("A head that names a mesh axis of classes that are whole",
      f"shard_linear_head(with_linear_head({INTEGER}, axis_name='model'), mesh, inputs=P('data'), kernel=P())(inputs, kernel, labels)",
      "shard_linear_head: with_linear_head, and the loss that it is given, must have the axis_name", "None, got 'model'"),
    M("A head that names another mesh axis",
      f"shard_linear_head(with_linear_head({INTEGER}, axis_name='data'), mesh, inputs=P(), kernel=P(None, 'model'))(inputs, kernel, labels)",
      "shard_linear_head: with_linear_head, and the loss that it is given, must have the axis_name", "'model', got 'data'"),
    M("A head that names the mesh axis of its tokens",
      f"shard_linear_head(with_linear_head({INTEGER}, batch_axis_name='data'), mesh, inputs=P('data'), kernel=P())(inputs, kernel, labels)",
      "with_linear_head: batch_axis_name must be left out, for shard_linear_head gives it", "'data'"),
    M("Targets of fewer tokens, sharded",
      f"shard_linear_head(with_linear_head({INTEGER}), mesh, inputs=P('data'), kernel=P())(inputs, kernel, labels[:3])",
      "with_linear_head: targets must have one entry for each token, [8]", "int32[3]"),
    M("A mesh axis of the head outside shard_map", f"{HEAD}(inputs, kernel, labels, axis_name='model')",
      f"{HEAD}: axis_name must be a mesh axis of the jax.shard_map around the call", "'model'"),
    M("A mesh axis of the focal loss outside shard_map", "softmax_focal_loss(logits, labels, axis_name='model')",
      "softmax_focal_loss: axis_name must be a mesh axis of the jax.shard_map around the call", "'model'"),
    M("Mesh axes of the batch outside shard_map", "softmax_cross_entropy(logits, onehot, batch_axis_name=('data', 'x'))",
      "softmax_cross_entropy: batch_axis_name must be a mesh axis", "('data', 'x')"),
    M("A mesh axis of several class axes",
      "shard_map(lambda z: logsumexp(z, axis=(0, 1), axis_name='model'), mesh, P('model'), P())(logits)",
      "logsumexp: axis must be one class axis, which axis_name='model' shards", "got 2"),
    M("A mesh axis that is not there", f"shard_linear_head({HEAD}, mesh, inputs=P('batch'), kernel=P())(inputs, kernel, labels)",
      "shard_linear_head: the mesh must have the axes that inputs and kernel name, ['batch']", "('data', 'model')"),
    M("No mesh", f"shard_linear_head({HEAD}, inputs=P('data'), kernel=P())(inputs, kernel, labels)",
      "shard_linear_head: the mesh must have the axes", "got ()"),
    M("Devices for a mesh", f"shard_linear_head({HEAD}, jax.devices()[:2], inputs=P('data'), kernel=P())",
      "shard_linear_head: mesh must be a mesh", "CpuDevice(id=0)"),
    M("A string for a spec", f"shard_linear_head({HEAD}, mesh, inputs='data', kernel=P())",
      "shard_linear_head: inputs must be a PartitionSpec", "'data'"),
    M("A spec of a higher rank", f"shard_linear_head({HEAD}, mesh, inputs=P('data', None, None), kernel=P())(inputs, kernel, labels)",
      "shard_linear_head: inputs must be divided over their tokens", "P('data', None, None)"),
    M("A mesh axis for the width of the inputs", f"shard_linear_head({HEAD}, mesh, inputs=P(None, 'data'), kernel=P())(inputs, kernel, labels)",
      "shard_linear_head: inputs must be divided over their tokens alone", "P(None, 'data')"),
    M("A mesh axis twice in the kernel", f"shard_linear_head({HEAD}, mesh, inputs=P('data'), kernel=P('model', 'model'))",
      "shard_linear_head: kernel must name each mesh axis once", "P('model', 'model')"),
    M("A mesh axis for tokens and classes", f"shard_linear_head({HEAD}, mesh, inputs=P('data'), kernel=P(None, 'data'))(inputs, kernel, labels)",
      "shard_linear_head: a mesh axis divides", "['data']"),
    M("Tokens that the mesh does not divide", f"{SHARD}(inputs[:7], kernel, labels[:7])",
      "shard_linear_head: ('data',) of the mesh must divide axis 0 of inputs", "7 over 2"),
    M("An option that the sharded head does not have", f"{SHARD}(inputs, kernel, labels, smoothing=0.1)",
      f"{HEAD}: got an unexpected keyword argument", "'smoothing'"),
    M("A mesh axis for the sharded head", f"{SHARD}(inputs, kernel, labels, axis_name='model')",
      f"{HEAD}: axis_name must be left out", "'model'"),
    M("Mistakes of the head, sharded", f"{SHARD}(inputs, kernel.T, labels)",
      f"{HEAD}: inputs must have the shape [..., D] and kernel", "Give kernel.T"),
    # ------------------------------------------------------------ the prover
    M("A comma between dimensions", "array('n, k')", "array: dims must be names", "'n, k'"),
    M("A tuple of dimensions", "array(('n', 'k'))", "array: dims must be names", "('n', 'k')"),
    M("A kind of argument that is not there", "array('n k', kind='positive')", "array() got an unexpected", "'kind'",
      TYPE_SYSTEM),
    M("A mask that keeps, of floats", "array('n k', keeps='y')", "array: keeps='y' is for masks", "float32"),
    M("Labels of two numbers of classes", "array('n k'), labels('n', classes='n k')", "labels: classes must be one dimension", "'n k'"),
    M("By an argument that is not there", f"prove_vjp({INTEGER}, {SPECS}, wrt=('logits',))",
      "prove_vjp: wrt must hold names of real arguments, ['z']", "('logits',)"),
    M("By the labels", f"prove_vjp({INTEGER}, {SPECS}, wrt=('y',))", "prove_vjp: wrt must hold names of real arguments",
      "('y',)"),
    M("By nothing", f"prove_vjp({INTEGER}, {SPECS}, wrt=())", "prove_vjp: wrt must hold names", "got ()"),
    M("A shape in place of a spec", f"prove_vjp({INTEGER}, {{'z': 'n k'}}, wrt=('z',))", "prove_vjp: args must hold a spec",
      "'n k'"),
    M("A least size of what is not there", f"prove_vjp({INTEGER}, {SPECS}, wrt=('z',), least={{'classes': 2}})",
      "prove_vjp: least must give sizes of ['k', 'n']", "{'classes': 2}"),
    M("An argument without a spec", f"assert_vjp_proved({INTEGER}, {{'z': array('n k')}}, wrt=('z',))",
      f"{INTEGER} is not proved: refused: tracing", "argument: 'labels'"),
    M("Specs in another order",
      f"assert_vjp_proved({INTEGER}, {{'y': labels('n', classes='k'), 'z': array('n k')}}, wrt=('z',))",
      f"{INTEGER} is not proved: refused: tracing", "logits must be a floating-point array, got int32[n]"),
    M("Code that asks for a number", "assert_vjp_proved(lambda z: z.reshape(-1, 128), {'z': array('n k')}, wrt=('z',))",
      "<lambda> is not proved: refused: tracing", "(n, k) and (-1, 128)", "JAX's words, with a hint of ours"),
    M("A root of a size", "assert_vjp_proved(lambda z: z * z.shape[1] ** -0.5, {'z': array('n k')}, wrt=('z',))",
      "<lambda> is not proved: refused: ", "give the size as a number in the spec", "JAX's words, with a hint of ours"),
    M("A timeout in words", f"prove_vjp({INTEGER}, {SPECS}, wrt=('z',), timeout='1 min')",
      "prove_vjp: timeout must be a number of seconds above 0, or None", "'1 min'"),
    M("A factor forgotten", "assert_vjp_proved(squared, {'z': array('n')}, wrt=('z',))",
      "squared is not proved: refuted: the gradient to z: -1*g[a0]*z[a0] is left over", "should be: [0.25]"),
    M("An integer beside another output",
      "assert_vjp_proved(lambda z: (z, jnp.arange(3)), {'z': array('n k')}, wrt=('z',))",
      "<lambda> is not proved: refused: an output of int32 beside others", "only arrays of floats have a derivative"),
    M("SymPy is not installed", "from xent_jax.proofs import prove_vjp", "xent_jax.proofs.prove_vjp needs sympy",
      "pip install 'xent-jax[proofs]'"),
    # ------------------------------------------------------------ its command
    M("SymPy is not installed, the command", "$ xent-prove", "xent-prove needs sympy", "pip install 'xent-jax[proofs]'"),
    M("A claim that is not there", "$ xent-prove --only sofmax", "xent-prove: nothing is called 'sofmax'", "'softmax'"),
    M("A page into a folder that is not there", "$ xent-prove --html no/such/page.html",
      "xent-prove: --html no/such/page.html", "no/such"),
    M("A module without its function", "$ xent-prove --module losses", "xent-prove: --module wants", "'losses'"),
    M("Specs without a function", "$ xent-prove --wrt z", "xent-prove: --args and --wrt describe", "give --module"),
]  # fmt: skip


@functools.cache
def namespace() -> dict:
    """What the user has at hand."""
    names = {"jax": jax, "jnp": jnp, "P": P, "NamedArray": NamedArray, "Partitioned": Partitioned}
    names |= {"squared": squared, "of_layer": of_layer, "shard_map": _shards.shard_map}
    names |= {name: getattr(xent_jax, name) for name in xent_jax.__all__}
    names |= {n: getattr(proofs, n) for n in ("array", "assert_vjp_proved", "prove_vjp")}
    labels = jnp.zeros(8, jnp.int32)
    names |= {"logits": jnp.zeros((8, 10)), "labels": labels, "onehot": jax.nn.one_hot(labels, 10)}
    names |= {"inputs": jnp.ones((8, 16)), "kernel": jnp.zeros((16, 10))}
    return names | {"mesh": jax.make_mesh((2, 4), ("data", "model"))}


@functools.cache
def told(mistake: Mistake) -> Told:
    """Types it."""
    if mistake.typed.startswith("$ "):
        message, ours, chained = _of_command(mistake)
    elif mistake.title == "SymPy is not installed":
        message, ours, chained = _of_process(mistake.typed)
    else:
        message, ours, chained = _of_code(mistake.typed)
    message = re.sub(r" at 0x\w+", "", message.replace("PartitionSpec(", "P("))  # before jax 0.7
    message = re.sub(r"\. Did you mean .*", "", message)  # Python says so from 3.13
    whose = f"({mistake.whose})\n" if mistake.whose else ""
    prompt = "" if mistake.typed.startswith("$ ") else ">>> "
    text = f"# {mistake.title}\n{prompt}{mistake.typed}\n{message}\n{whose}"
    return Told(text, message.partition(": ")[2] if prompt else message, ours, chained)


def _of_code(typed: str) -> tuple[str, bool, bool]:
    try:
        exec(typed, namespace() | ({"labels": proofs.labels} if "array(" in typed else {}))
    except Exception as error:
        file = traceback.extract_tb(error.__traceback__)[-1].filename
        notes = [n for n in getattr(error, "__notes__", ()) if "xent_jax" in n]
        above = error.__cause__ or (error.__context__ and not error.__suppress_context__)
        message = "\n".join([f"{type(error).__name__}: {error}", *notes])
        return message, file.startswith(OURS), bool(above)
    return "nothing: it was taken", False, False


def _of_process(typed: str) -> tuple[str, bool, bool]:
    code = f"import sys; sys.modules['sympy'] = None; {typed}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *frames, message = run.stderr.strip().splitlines()
    last = [f for f in frames if f.startswith("  File")][-1]
    return message, any(ours in last for ours in OURS), run.stderr.count("Traceback") > 1


def _of_command(mistake: Mistake) -> tuple[str, bool, bool]:
    """The one line that the command prints; it is the command's if the status is 2."""
    missing = mock.patch("importlib.util.find_spec", lambda name: None if name == "sympy" else name)
    patched = missing if "SymPy" in mistake.title else contextlib.nullcontext()
    with patched, contextlib.redirect_stderr(io.StringIO()) as err:
        status = xent_prove(mistake.typed.split()[2:])
    line = err.getvalue().strip()
    return line, status == 2, "\n" in line


def main() -> None:
    """Prints or writes."""
    jax.config.update("jax_num_cpu_devices", 8)
    head = f"jax {jax.__version__}\n"
    if "--write" in sys.argv:
        TRANSCRIPT.write_text("\n".join([head, *(told(m).text for m in MISTAKES)]), "utf-8")
        return
    print(head)
    for mistake in MISTAKES:
        print(told(mistake).text, flush=True)


if __name__ == "__main__":
    main()
