"""The errors of the public edge; below it the mathematics is bare.

Each check names the argument, what was expected, what came, and the likely cause. TypeError is for dtypes and kinds,
ValueError for shapes and values.
"""

from jaxseq.check._arrays import array as array
from jaxseq.check._arrays import array_like as array_like
from jaxseq.check._arrays import as_jax as as_jax
from jaxseq.check._arrays import features as features
from jaxseq.check._arrays import fits as fits
from jaxseq.check._arrays import flags as flags
from jaxseq.check._arrays import float_dtype as float_dtype
from jaxseq.check._arrays import floating as floating
from jaxseq.check._arrays import inputs as inputs
from jaxseq.check._arrays import integers as integers
from jaxseq.check._arrays import real as real
from jaxseq.check._arrays import representable as representable
from jaxseq.check._arrays import shaped as shaped
from jaxseq.check._arrays import splits as splits
from jaxseq.check._backward import backward_signatures as backward_signatures
from jaxseq.check._backward import blame_backward as blame_backward
from jaxseq.check._backward import by_bwd as by_bwd
from jaxseq.check._backward import by_fwd as by_fwd
from jaxseq.check._backward import by_project as by_project
from jaxseq.check._backward import gradients as gradients
from jaxseq.check._nets import batch_leads as batch_leads
from jaxseq.check._nets import blame as blame
from jaxseq.check._nets import brief as brief
from jaxseq.check._nets import carry as carry
from jaxseq.check._nets import causal as causal
from jaxseq.check._nets import inside as inside
from jaxseq.check._nets import net as net
from jaxseq.check._nets import outputs as outputs
from jaxseq.check._nets import parameters as parameters
from jaxseq.check._nets import shape_of_inputs as shape_of_inputs
from jaxseq.check._nets import signatures as signatures
from jaxseq.check._values import at_least_zero as at_least_zero
from jaxseq.check._values import bias as bias
from jaxseq.check._values import direction as direction
from jaxseq.check._values import finite as finite
from jaxseq.check._values import function as function
from jaxseq.check._values import function_taking as function_taking
from jaxseq.check._values import functions_taking as functions_taking
from jaxseq.check._values import given_key as given_key
from jaxseq.check._values import initializers as initializers
from jaxseq.check._values import kernel as kernel
from jaxseq.check._values import natural as natural
from jaxseq.check._values import number as number
from jaxseq.check._values import one_of as one_of
from jaxseq.check._values import path as path
from jaxseq.check._values import positive as positive
from jaxseq.check._values import positive_finite as positive_finite
from jaxseq.check._values import positive_int as positive_int
from jaxseq.check._values import probability as probability
from jaxseq.check._values import random_key as random_key
from jaxseq.check._values import rate as rate
from jaxseq.check._values import seed as seed
from jaxseq.check._values import sequence as sequence
from jaxseq.check._values import shape as shape
from jaxseq.check._values import short as short
from jaxseq.check._values import switch as switch
from jaxseq.check._values import takes as takes
from jaxseq.check._wrappers import drawn as drawn
from jaxseq.check._wrappers import extra as extra
from jaxseq.check._wrappers import like_step as like_step
from jaxseq.check._wrappers import noting as noting
from jaxseq.check._wrappers import own_params as own_params
