//! Facts about each sampler, as a table.

use serde::Serialize;

use super::SamplerConfig;

/// Facts about a kind of sampler with its default settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SamplerFacts {
    /// Its kind in a config, which is also its name on the command line.
    pub name: &'static str,
    /// Authors, year and arXiv id.
    pub paper: &'static str,
    /// Place in the paper.
    pub equation: &'static str,
    /// The measured order of convergence: of the flow for deterministic samplers, otherwise of the
    /// final variance. `None` for samplers that are no approximation refined by more steps.
    pub order: Option<usize>,
    /// Network evaluations per step taken. End steps and warm-ups may differ; `restart` takes the
    /// steps of the grid and, `times` more times, those in its band, which
    /// [`Sampler::plan`](crate::Sampler::plan) returns for a grid.
    pub nfe: usize,
    /// Whether the result depends only on the initial noise.
    pub deterministic: bool,
    /// The equivalent in diffusers: the class with its options, and the setting needed here where
    /// the default differs.
    pub diffusers: Option<&'static str>,
    /// The equivalent in k-diffusion: the function, likewise.
    pub k_diffusion: Option<&'static str>,
}

const DDPM: &str = "Ho et al. 2020, arXiv:2006.11239";
const DDIM_PAPER: &str = "Song et al. 2020, arXiv:2010.02502";
const KARRAS: &str = "Karras et al. 2022, arXiv:2206.00364";
const DPM_SOLVER_PP: &str = "Lu et al. 2022, arXiv:2211.01095";
const UNIPC: &str = "Zhao et al. 2023, arXiv:2302.04867";
const PNDM_PAPER: &str = "Liu et al. 2022, arXiv:2202.09778";
const DEIS_PAPER: &str = "Zhang & Chen 2022, arXiv:2204.13902";

const NOTHING: SamplerFacts = SamplerFacts {
    name: "",
    paper: "",
    equation: "",
    order: None,
    nfe: 1,
    deterministic: true,
    diffusers: None,
    k_diffusion: None,
};

const ANCESTRAL: SamplerFacts = SamplerFacts {
    name: "ancestral",
    paper: "Ho et al. 2022, arXiv:2204.03458",
    equation: "eq. 4",
    order: Some(1),
    deterministic: false,
    diffusers: Some("DDPMScheduler"),
    ..NOTHING
};
const DDPM_SMALL: SamplerFacts = SamplerFacts {
    name: "ddpm-small",
    paper: DDPM,
    equation: "eq. 7, section 3.2",
    diffusers: Some("DDPMScheduler(variance_type=\"fixed_small\")"),
    ..ANCESTRAL
};
const DDPM_LARGE: SamplerFacts = SamplerFacts {
    name: "ddpm-large",
    diffusers: Some("DDPMScheduler(variance_type=\"fixed_large\")"),
    ..DDPM_SMALL
};
const DDIM: SamplerFacts = SamplerFacts {
    name: "ddim",
    paper: DDIM_PAPER,
    equation: "eq. 12",
    order: Some(1),
    diffusers: Some("DDIMScheduler"),
    ..NOTHING
};
const EULER: SamplerFacts = SamplerFacts {
    name: "euler",
    paper: KARRAS,
    equation: "algorithm 1 without its correction",
    diffusers: Some("EulerDiscreteScheduler"),
    k_diffusion: Some("sample_euler"),
    ..DDIM
};
const EULER_ANCESTRAL: SamplerFacts = SamplerFacts {
    name: "euler-ancestral",
    paper: DDIM_PAPER,
    equation: "eq. 12 and 16",
    deterministic: false,
    diffusers: Some("EulerAncestralDiscreteScheduler"),
    k_diffusion: Some("sample_euler_ancestral"),
    ..DDIM
};
const HEUN: SamplerFacts = SamplerFacts {
    name: "heun",
    paper: KARRAS,
    equation: "algorithms 1 and 2",
    order: Some(2),
    nfe: 2,
    diffusers: Some("FlowMatchHeunDiscreteScheduler; HeunDiscreteScheduler for line = \"edm\""),
    k_diffusion: Some("sample_heun for line = \"edm\""),
    ..NOTHING
};
const DPM2: SamplerFacts = SamplerFacts {
    name: "dpm2",
    paper: "Lu et al. 2022, arXiv:2206.00927",
    equation: "algorithm 1",
    diffusers: Some("KDPM2DiscreteScheduler"),
    k_diffusion: Some("sample_dpm_2"),
    ..HEUN
};
const LMS: SamplerFacts = SamplerFacts {
    name: "lms",
    paper: DEIS_PAPER,
    equation: "section 4, rho-AB",
    order: Some(4),
    diffusers: Some("LMSDiscreteScheduler"),
    k_diffusion: Some("sample_lms"),
    ..NOTHING
};
const DPMPP_2S: SamplerFacts = SamplerFacts {
    name: "dpmpp-2s-ancestral",
    paper: DPM_SOLVER_PP,
    equation: "algorithm 1",
    order: Some(2),
    nfe: 2,
    deterministic: false,
    k_diffusion: Some("sample_dpmpp_2s_ancestral"),
    ..NOTHING
};
const DPMPP_2M: SamplerFacts = SamplerFacts {
    name: "dpmpp-2m",
    paper: DPM_SOLVER_PP,
    equation: "algorithm 2",
    order: Some(2),
    diffusers: Some("DPMSolverMultistepScheduler for last = \"fall-in-short-runs\""),
    k_diffusion: Some("sample_dpmpp_2m for last = \"keep\""),
    ..NOTHING
};
const DPMPP_2M_SDE: SamplerFacts = SamplerFacts {
    name: "dpmpp-2m-sde",
    equation: "section 5",
    deterministic: false,
    diffusers: Some(
        "DPMSolverMultistepScheduler(algorithm_type=\"sde-dpmsolver++\") for last = \
         \"fall-in-short-runs\"",
    ),
    k_diffusion: Some("sample_dpmpp_2m_sde for last = \"keep\""),
    ..DPMPP_2M
};
const DPMPP_3M_SDE: SamplerFacts = SamplerFacts {
    name: "dpmpp-3m-sde",
    equation: "sections 4.2 and 5, one order up",
    diffusers: Some(
        "DPMSolverMultistepScheduler(algorithm_type=\"sde-dpmsolver++\", solver_order=3) for form = \
         \"diffusers\", but for a wrong sign of its own",
    ),
    k_diffusion: Some("sample_dpmpp_3m_sde for form = \"k-diffusion\""),
    ..DPMPP_2M_SDE
};
const UNIPC_2: SamplerFacts = SamplerFacts {
    name: "unipc-2",
    paper: UNIPC,
    equation: "algorithms 1 and 2",
    order: Some(3),
    diffusers: Some("UniPCMultistepScheduler(solver_order=2) for line = \"bh2\""),
    ..NOTHING
};
const UNIPC_3: SamplerFacts = SamplerFacts {
    name: "unipc-3",
    order: Some(4),
    diffusers: Some("UniPCMultistepScheduler(solver_order=3) for line = \"bh2\""),
    ..UNIPC_2
};
const PNDM: SamplerFacts = SamplerFacts {
    name: "pndm",
    paper: PNDM_PAPER,
    equation: "eq. 11 and 12",
    order: Some(2),
    diffusers: Some("PNDMScheduler(skip_prk_steps=True)"),
    ..NOTHING
};
const IPNDM: SamplerFacts = SamplerFacts {
    name: "ipndm",
    paper: DEIS_PAPER,
    equation: "iPNDM",
    diffusers: Some("IPNDMScheduler"),
    ..PNDM
};
const DEIS: SamplerFacts = SamplerFacts {
    name: "deis",
    paper: DEIS_PAPER,
    equation: "section 3, polynomial extrapolation",
    order: Some(3),
    diffusers: Some("DEISMultistepScheduler(solver_order=3) for last = \"fall-in-short-runs\""),
    ..NOTHING
};
const LCM: SamplerFacts = SamplerFacts {
    name: "lcm",
    paper: "Luo et al. 2023, arXiv:2310.04378",
    equation: "algorithm 3",
    deterministic: false,
    diffusers: Some("LCMScheduler for boundary = {}"),
    ..NOTHING
};
const RESTART: SamplerFacts = SamplerFacts {
    name: "restart",
    paper: "Xu et al. 2023, arXiv:2306.14878",
    equation: "algorithm 1",
    order: Some(2),
    deterministic: false,
    ..NOTHING
};
const LANGEVIN: SamplerFacts = SamplerFacts {
    name: "langevin",
    paper: "Ho et al. 2022, arXiv:2204.03458",
    equation: "section 2",
    nfe: 2,
    deterministic: false,
    ..NOTHING
};

impl SamplerFacts {
    /// All of them, in the order of [`SamplerConfig::all`].
    pub const ALL: &'static [SamplerFacts] = &[
        ANCESTRAL,
        DDPM_SMALL,
        DDPM_LARGE,
        DDIM,
        EULER,
        EULER_ANCESTRAL,
        HEUN,
        DPM2,
        LMS,
        DPMPP_2S,
        DPMPP_2M,
        DPMPP_2M_SDE,
        DPMPP_3M_SDE,
        UNIPC_2,
        UNIPC_3,
        PNDM,
        IPNDM,
        DEIS,
        LCM,
        RESTART,
        LANGEVIN,
    ];
}

impl SamplerConfig {
    /// Facts about this kind of sampler.
    pub fn facts(&self) -> &'static SamplerFacts {
        match self {
            SamplerConfig::Ancestral { .. } => &ANCESTRAL,
            SamplerConfig::DdpmSmall { .. } => &DDPM_SMALL,
            SamplerConfig::DdpmLarge => &DDPM_LARGE,
            SamplerConfig::Ddim { .. } => &DDIM,
            SamplerConfig::Euler => &EULER,
            SamplerConfig::EulerAncestral { .. } => &EULER_ANCESTRAL,
            SamplerConfig::Heun { .. } => &HEUN,
            SamplerConfig::Dpm2 => &DPM2,
            SamplerConfig::Lms { .. } => &LMS,
            SamplerConfig::DpmPp2sAncestral { .. } => &DPMPP_2S,
            SamplerConfig::DpmPp2m { .. } => &DPMPP_2M,
            SamplerConfig::DpmPp2mSde { .. } => &DPMPP_2M_SDE,
            SamplerConfig::DpmPp3mSde { .. } => &DPMPP_3M_SDE,
            SamplerConfig::UniPc2 { .. } => &UNIPC_2,
            SamplerConfig::UniPc3 { .. } => &UNIPC_3,
            SamplerConfig::Pndm => &PNDM,
            SamplerConfig::Ipndm { .. } => &IPNDM,
            SamplerConfig::Deis { .. } => &DEIS,
            SamplerConfig::Lcm { .. } => &LCM,
            SamplerConfig::Restart { .. } => &RESTART,
            SamplerConfig::Langevin { .. } => &LANGEVIN,
        }
    }
}
