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
    f"{name}Scheduler": defaults
    for names, defaults in (
        (("DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "PNDM"), {}),
        (("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver"), _LINSPACE),
        (("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete"), _LINSPACE),
        (("DPMSolverSDE", "KDPM2Discrete", "KDPM2AncestralDiscrete"), _LATENT_BETAS),
        (("HeunDiscrete",), _LATENT_BETAS | {"clip_sample": False}),
    )
    for name in names
}
# Consistency models have no T of their own: their networks know every noise level
_CONSISTENCY = {"preconditioning": "consistency", "total_steps": 1000, "var_type": "fixed_small", "respace_steps": 40}
_CONSISTENCY_LEVELS = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0, "clip_denoised": True}


def read_scheduler(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read a scheduler_config.json as the diffusion of one of our configs.

    The timesteps are those that DDPMScheduler of the same settings visits.

    Raises:
        InputError: a class whose networks learned something else, or a setting that is not supported.
    """
    class_name = content.get("_class_name", "DDPMScheduler")
    if class_name == "CMStochasticIterativeScheduler":
        return _CONSISTENCY | {key: content.get(key, default) for key, default in _CONSISTENCY_LEVELS.items()}
    if not isinstance(class_name, str) or class_name not in TRAINED_AS_DDPM:
        what = f"the scheduler {str(class_name)[:80]!r} is not supported"
        raise InputError(f"{source}: {what}: its networks may learn something else than DDPM's")
    scheduler = {**TRAINED_AS_DDPM[class_name], **content}

    def word(key: str, default: str, words: Mapping[Any, str]) -> str:
        value = scheduler.get(key, default)
        if not isinstance(value, str | None) or value not in words:
            understood = ", ".join(str(known) for known in words if known)
            raise InputError(f"{source}: {key} {reprlib.repr(value)} is not supported (only {understood})")
        return words[value]

    if scheduler.get("use_flow_sigmas", False):
        raise InputError(f"{source}: use_flow_sigmas is not supported: such networks learn flow matching")
    spacing, offset = scheduler.get("timestep_spacing", "leading"), scheduler.get("steps_offset", 0)
    respacing = (spacing, offset if spacing == "leading" else 0)  # the others do not look at it
    if not (isinstance(spacing, str) and isinstance(offset, int)) or respacing not in DIFFUSERS_RESPACINGS:
        what = f"timestep_spacing {reprlib.repr(spacing)} with steps_offset {reprlib.repr(offset)}"
        raise InputError(f"{source}: {what} is not supported (only leading with 0 or 1, linspace, trailing)")
    diffusion = {
        "total_steps": scheduler.get("num_train_timesteps", 1000),
        "beta_schedule": word("beta_schedule", "linear", DIFFUSERS_BETA_SCHEDULES),
        "beta_start": scheduler.get("beta_start", 1e-4),
        "beta_end": scheduler.get("beta_end", 0.02),
        "objective": word("prediction_type", "epsilon", DIFFUSERS_OBJECTIVES),
        "var_type": word("variance_type", "fixed_small", DIFFUSERS_VAR_TYPES),
        "clip_denoised": scheduler.get("clip_sample", True),
        "respace_type": DIFFUSERS_RESPACINGS[respacing],
    }
    betas = scheduler.get("trained_betas")
    if betas is not None:
        if not isinstance(betas, list) or not betas or not all(isinstance(beta, (int, float)) for beta in betas):
            raise InputError(f"{source}: trained_betas must be a list of numbers, not {reprlib.repr(betas)}")
        diffusion |= {"total_steps": len(betas), "beta_schedule": "given", "betas": betas}
    if scheduler.get("rescale_betas_zero_snr", False):
        diffusion["zero_terminal_snr"] = True
    if scheduler.get("clip_sample_range", 1.0) != 1.0:
        diffusion["clip_range"] = scheduler["clip_sample_range"]
    if scheduler.get("thresholding", False):
        diffusion["dynamic_threshold"] = scheduler.get("dynamic_thresholding_ratio", 0.995)
        diffusion["clip_range"] = scheduler.get("sample_max_value", 1.0)
    return diffusion
