"""What diffusers' scheduler_config.json says about the diffusion that a network was trained on.

A scheduler's class is a solver, which we do not need, but it also says what the network learned: most solve Ho et al.'s
diffusion, the others something else, for which our samplers would draw noise.
"""

import reprlib
from collections.abc import Mapping
from typing import Any

from utils.errors import InputError

DIFFUSERS_BETA_SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "quad",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
    "laplace": "laplace",
}
DIFFUSERS_OBJECTIVES = {"epsilon": "pred_eps", "sample": "pred_x0", "v_prediction": "pred_v"}
DIFFUSERS_VAR_TYPES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": "learned_range",
    None: "fixed_small",  # of solvers that draw no noise
}
# timestep_spacing and steps_offset, and the timesteps that DDPMScheduler visits by them
DIFFUSERS_RESPACINGS = {
    ("leading", 0): "diffusers-leading",
    ("leading", 1): "diffusers-leading-1",
    ("linspace", 0): "diffusers-linspace",
    ("trailing", 0): "diffusers-trailing",
}

# The classes whose networks are trained as DDPM's, and where a class's own defaults differ from DDPMScheduler's
_LINSPACE = {"timestep_spacing": "linspace"}
_LATENT_BETAS = _LINSPACE | {"beta_start": 0.00085, "beta_end": 0.012}
TRAINED_AS_DDPM: Mapping[str, Mapping[str, Any]] = {
    "DDPMScheduler": {},
    "DDPMParallelScheduler": {},
    "DDIMScheduler": {},
    "DDIMParallelScheduler": {},
    "PNDMScheduler": {},
    "DPMSolverMultistepScheduler": _LINSPACE,
    "DPMSolverSinglestepScheduler": _LINSPACE,
    "DPMSolverSDEScheduler": _LATENT_BETAS,
    "DEISMultistepScheduler": _LINSPACE,
    "UniPCMultistepScheduler": _LINSPACE,
    "SASolverScheduler": _LINSPACE,
    "EulerDiscreteScheduler": _LINSPACE,
    "EulerAncestralDiscreteScheduler": _LINSPACE,
    "HeunDiscreteScheduler": _LATENT_BETAS | {"clip_sample": False},
    "LMSDiscreteScheduler": _LINSPACE,
    "KDPM2DiscreteScheduler": _LATENT_BETAS,
    "KDPM2AncestralDiscreteScheduler": _LATENT_BETAS,
}


def read_scheduler(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read a scheduler_config.json as the diffusion of one of our configs.

    Args:
        content: the file's content.
        source: where it is from, for messages.

    Returns:
        The content of a config's `diffusion`; its timesteps are those that DDPMScheduler of the same settings visits.

    Raises:
        InputError: a class whose networks learned something else, or a setting that is not supported.
    """
    if content.get("_class_name") == "CMStochasticIterativeScheduler":
        return _consistency(content)
    scheduler = dict(_defaults(content.get("_class_name", "DDPMScheduler"), source)) | dict(content)

    def word(key: str, default: str, words: Mapping[Any, str]) -> str:
        value = scheduler.get(key, default)
        if not isinstance(value, str | None) or value not in words:
            understood = ", ".join(str(known) for known in words if known)
            raise InputError(f"{source}: {key} {reprlib.repr(value)} is not supported (only {understood})")
        return words[value]

    if scheduler.get("use_flow_sigmas", False):
        raise InputError(f"{source}: use_flow_sigmas is not supported: such networks learn flow matching")
    betas = scheduler.get("trained_betas")
    diffusion = {
        "total_steps": scheduler.get("num_train_timesteps", 1000) if betas is None else len(_numbers(betas, source)),
        "beta_schedule": word("beta_schedule", "linear", DIFFUSERS_BETA_SCHEDULES),
        "beta_start": scheduler.get("beta_start", 1e-4),
        "beta_end": scheduler.get("beta_end", 0.02),
        "objective": word("prediction_type", "epsilon", DIFFUSERS_OBJECTIVES),
        "var_type": word("variance_type", "fixed_small", DIFFUSERS_VAR_TYPES),
        "clip_denoised": scheduler.get("clip_sample", True),
        "respace_type": _respacing(scheduler, source),
    }
    if betas is not None:
        diffusion |= {"beta_schedule": "given", "betas": betas}
    if scheduler.get("rescale_betas_zero_snr", False):
        diffusion["zero_terminal_snr"] = True
    if scheduler.get("clip_sample_range", 1.0) != 1.0:
        diffusion["clip_range"] = scheduler["clip_sample_range"]
    if scheduler.get("thresholding", False):
        diffusion["dynamic_threshold"] = scheduler.get("dynamic_thresholding_ratio", 0.995)
        diffusion["clip_range"] = scheduler.get("sample_max_value", 1.0)
    return diffusion


def _defaults(class_name: object, source: str) -> Mapping[str, Any]:
    """Return the defaults of a scheduler's class where they differ from DDPMScheduler's.

    Raises:
        InputError: its networks are not trained like DDPM's, or it is unknown.
    """
    if isinstance(class_name, str) and class_name in TRAINED_AS_DDPM:
        return TRAINED_AS_DDPM[class_name]
    raise InputError(
        f"{source}: the scheduler {str(class_name)[:80]!r} is not supported: its networks may learn something "
        "else than DDPM's"
    )


def _consistency(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the diffusion of consistency models, whose networks know every noise level and have no T of their own."""
    levels = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0, "clip_denoised": True}
    said = {key: scheduler.get(key, default) for key, default in levels.items()}
    return {
        "preconditioning": "consistency",
        "total_steps": 1000,
        "var_type": "fixed_small",
        "respace_steps": 40,
    } | said


def _respacing(scheduler: Mapping[str, Any], source: str) -> str:
    spacing, offset = scheduler.get("timestep_spacing", "leading"), scheduler.get("steps_offset", 0)
    key = (spacing, offset if spacing == "leading" else 0)  # the others do not look at it
    if not (isinstance(spacing, str) and isinstance(offset, int)) or key not in DIFFUSERS_RESPACINGS:
        what = f"timestep_spacing {reprlib.repr(spacing)} with steps_offset {reprlib.repr(offset)}"
        raise InputError(f"{source}: {what} is not supported (only leading with 0 or 1, linspace, trailing)")
    return DIFFUSERS_RESPACINGS[key]


def _numbers(betas: object, source: str) -> list[float]:
    if not isinstance(betas, list) or not betas or not all(isinstance(beta, (int, float)) for beta in betas):
        raise InputError(f"{source}: trained_betas must be a list of numbers, not {reprlib.repr(betas)}")
    return betas
