//! Muon on the Q, K, V and O matrices, AdamW on everything else, with clipping of the global
//! gradient norm.

mod adamw;
mod lora;
mod muon;
mod shards;

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{ElementConversion, FloatDType, Tensor};
use needle_model::params::{self, ParamInfo, ParamMapper, ParamVisitor};
use needle_model::{FusedOps, San};
use needle_runtime::file::names::EMBEDDING;

use crate::recipe::{Group, OptimConfig};

pub use adamw::{AdamW, AdamWConfig};
pub use lora::Lora;
pub use muon::{Muon, MuonConfig, newton_schulz};
pub use shards::{Piece, Shards};

impl OptimConfig {
    fn muon(&self) -> MuonConfig {
        MuonConfig { momentum: self.muon_momentum, weight_decay: self.muon_weight_decay, ns_steps: self.muon_ns_steps }
    }

    fn adamw<B: Backend>(&self) -> AdamW<B> {
        let config = AdamWConfig { beta1: self.adamw_beta1, beta2: self.adamw_beta2, epsilon: self.adamw_epsilon };
        AdamW::new(config).with_weight_decay(self.adamw_weight_decay)
    }
}

/// The group of a parameter; each is in exactly one. `matrices` is the group of the Q, K, V and O
/// matrices.
pub fn group(info: &ParamInfo, matrices: Group) -> Group {
    if info.is_attention_matrix() { matrices } else { Group::AdamW }
}

/// Gradients by parameter name, flattened.
pub type Gradients<B> = BTreeMap<String, Tensor<B, 1>>;

/// The gradients of `model` in `raw`. A parameter on which the loss does not depend has none.
pub fn collect<AB: AutodiffBackend>(model: &San<AB>, raw: &AB::Gradients) -> Gradients<AB::InnerBackend> {
    struct Collect<'a, AB: AutodiffBackend> {
        raw: &'a AB::Gradients,
        found: Gradients<AB::InnerBackend>,
    }
    impl<AB: AutodiffBackend> ParamVisitor<AB> for Collect<'_, AB> {
        fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<AB, D>) {
            if let Some(gradient) = tensor.grad(self.raw) {
                self.found.insert(info.name, gradient.reshape([-1]).cast(FloatDType::F32));
            }
        }
    }
    let mut collect = Collect { raw, found: Gradients::<AB::InnerBackend>::new() };
    params::visit(model, &mut collect);
    collect.found
}

/// Adds `more` to `sum`, name by name.
pub fn add_gradients<B: Backend>(sum: &mut Gradients<B>, more: Gradients<B>) {
    for (name, gradient) in more {
        let gradient = match sum.remove(&name) {
            Some(before) => before + gradient,
            None => gradient,
        };
        sum.insert(name, gradient);
    }
}

/// Elements that are summed together before all sums are.
const SUM_ROW: usize = 1024;

/// The squared global norm of `gradients`.
pub fn squared_norm<B: Backend>(gradients: &Gradients<B>) -> f64 {
    if gradients.is_empty() {
        return 0.0;
    }
    let all = Tensor::cat(gradients.values().cloned().collect(), 0);
    let squares = all.clone() * all;
    // Sums of rows first. burn's sum of a long vector on GPUs adds atomically, in any order, and on
    // Vulkan's software driver it loses a tenth of this one.
    let length = squares.dims()[0];
    let whole = length - length % SUM_ROW;
    let mut parts = Vec::new();
    if whole > 0 {
        let rows = squares.clone().narrow(0, 0, whole).reshape([whole / SUM_ROW, SUM_ROW]);
        parts.push(rows.sum_dim(1).reshape([-1]));
    }
    if whole < length {
        parts.push(squares.narrow(0, whole, length - whole));
    }
    let sums: Tensor<B, 2> = Tensor::cat(parts, 0).reshape([1, -1]);
    sums.sum_dim(1).into_scalar().elem()
}

/// Scales `gradients` of global norm `norm` so that the norm is at most `most`.
///
/// burn clips per tensor; the recipe's clipping is global (Pascanu et al., arXiv:1211.5063).
pub fn clip<B: Backend>(gradients: Gradients<B>, norm: f64, most: f64) -> Gradients<B> {
    // The caller handles a norm that is not finite; scaling by it would hide where it came from.
    if norm <= most || !norm.is_finite() {
        return gradients;
    }
    let scale = most / norm;
    gradients.into_iter().map(|(name, gradient)| (name, gradient * scale)).collect()
}

/// Scales `gradients` so that their global norm is at most `most`, and returns the norm before
/// clipping.
pub fn clip_global_norm<B: Backend>(gradients: Gradients<B>, most: f64) -> (Gradients<B>, f64) {
    let norm = squared_norm(&gradients).sqrt();
    (clip(gradients, norm, most), norm)
}

/// The learning rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// Muon's.
    pub muon: f64,
    /// AdamW's.
    pub adamw: f64,
}

/// Both optimizers and their state, on the inner backend.
#[derive(Debug, Clone)]
pub struct Optimizer<B: Backend> {
    matrices: Group,
    muon: Muon<B>,
    adamw: AdamW<B>,
    embedding_lr_scale: f64,
    /// Replaces both if the recipe trains adapters.
    lora: Option<Lora<B>>,
    /// The ranges that this rank updates, if other ranks update the rest.
    own: Option<BTreeMap<String, Range<usize>>>,
}

impl<B: FusedOps> Optimizer<B> {
    /// A new optimizer. Initial adapters are drawn from `seed`, the run's seed.
    pub fn new(config: &OptimConfig, seed: u64) -> Self {
        Self {
            matrices: config.matrices,
            muon: Muon::new(config.muon()),
            adamw: config.adamw(),
            embedding_lr_scale: config.embedding_lr_scale,
            lora: config.lora_rank.map(|rank| Lora::new(rank, seed, config.adamw())),
            own: None,
        }
    }

    /// Restricts the optimizer to `pieces` of the parameters; gradients are then those of the
    /// pieces.
    pub fn of_pieces(self, pieces: &[Piece]) -> Self {
        let own = pieces.iter().map(|piece| (piece.name.clone(), piece.range.clone())).collect();
        Self { own: Some(own), ..self }
    }

    /// `model` after one update.
    pub fn step<AB: AutodiffBackend<InnerBackend = B>>(
        &mut self,
        model: San<AB>,
        mut gradients: Gradients<B>,
        rates: LearningRates,
    ) -> San<AB> {
        let matrices = if self.lora.is_some() { Group::Muon } else { self.matrices };
        let mut current = Current::<B> { matrices, muon: Vec::new(), adamw: Vec::new() };
        params::visit(&model.valid(), &mut current);
        let mut with_gradient = |list: Vec<Named<B>>| -> Vec<(Named<B>, Tensor<B, 1>)> {
            list.into_iter().filter_map(|p| gradients.remove(&p.name).map(|g| (self.piece(p), g))).collect()
        };
        let (muon, adamw) = (with_gradient(current.muon), with_gradient(current.adamw));
        let updated = match &mut self.lora {
            Some(lora) => lora.step(muon, rates.adamw),
            None => {
                let mut updated = self.muon.step(muon, rates.muon);
                let (embedding, rest) = adamw.into_iter().partition(|(param, _)| param.name == EMBEDDING);
                updated.extend(self.adamw.step(embedding, rates.adamw * self.embedding_lr_scale));
                updated.extend(self.adamw.step(rest, rates.adamw));
                updated
            }
        };
        params::map(model, &mut Replace { updated, own: self.own.as_ref() })
    }

    /// The values of `param` that this rank updates.
    fn piece(&self, param: Named<B>) -> Named<B> {
        match self.own.as_ref().and_then(|own| own.get(&param.name)) {
            Some(range) if range.len() < param.value.dims()[0] => {
                Named { value: param.value.narrow(0, range.start, range.len()), ..param }
            }
            _ => param,
        }
    }

    /// The state by name, flattened, for a checkpoint. For a parameter in pieces, it is the piece's
    /// state.
    pub fn state(&self) -> BTreeMap<String, Tensor<B, 1>> {
        let muon = self.muon.state().into_iter().map(|(name, tensor)| (format!("muon.{name}"), tensor));
        let adamw = self.adamw.state().into_iter().map(|(name, tensor)| (format!("adamw.{name}"), tensor));
        let lora = self.lora.iter().flat_map(Lora::state).map(|(name, tensor)| (format!("lora.{name}"), tensor));
        muon.chain(adamw).chain(lora).collect()
    }

    /// Restores the state that [`Optimizer::state`] returned; the states of pieces must have been
    /// put together.
    ///
    /// # Errors
    /// If it is incomplete; the message names the parameter.
    pub fn load_state(&mut self, state: BTreeMap<String, Tensor<B, 1>>) -> Result<(), String> {
        let (mut muon, mut adamw, mut lora) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in state {
            let Some(tensor) = self.own_part(&name, tensor) else { continue };
            if let Some(name) = name.strip_prefix("muon.") {
                muon.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("adamw.") {
                adamw.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("lora.") {
                lora.insert(name.to_owned(), tensor);
            }
        }
        if let Some(adapters) = &mut self.lora {
            adapters.load_state(lora)?;
        }
        self.muon.load_state(muon);
        self.adamw.load_state(adamw)
    }
}

impl<B: Backend> Optimizer<B> {
    /// The part of the state `name` that belongs to the values that this rank updates.
    fn own_part(&self, name: &str, tensor: Tensor<B, 1>) -> Option<Tensor<B, 1>> {
        let Some(own) = &self.own else { return Some(tensor) };
        let (kind, name) = name.split_once('.')?;
        let is_count = name.ends_with(adamw::STEPS);
        let parameter = match kind {
            "adamw" => [".m", ".v", adamw::STEPS].iter().find_map(|suffix| name.strip_suffix(*suffix))?,
            "lora" => name.find(".weight.").map(|end| &name[..end + ".weight".len()])?,
            _ => name,
        };
        let range = own.get(parameter)?;
        let is_piece = kind == "adamw" && !is_count && range.len() < tensor.dims()[0];
        Some(if is_piece { tensor.narrow(0, range.start, range.len()) } else { tensor })
    }
}

/// A flattened parameter with its name and shape.
#[derive(Debug, Clone)]
pub struct Named<B: Backend> {
    /// Its name.
    pub name: String,
    /// Its shape in memory.
    pub shape: Vec<usize>,
    /// Its value.
    pub value: Tensor<B, 1>,
}

struct Current<B: Backend> {
    matrices: Group,
    muon: Vec<Named<B>>,
    adamw: Vec<Named<B>>,
}

impl<B: Backend> ParamVisitor<B> for Current<B> {
    fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) {
        let list = match group(&info, self.matrices) {
            Group::Muon => &mut self.muon,
            Group::AdamW => &mut self.adamw,
        };
        list.push(Named { name: info.name, shape: info.shape, value: tensor.reshape([-1]) });
    }
}

struct Replace<'a, B: Backend> {
    updated: BTreeMap<String, Tensor<B, 1>>,
    own: Option<&'a BTreeMap<String, Range<usize>>>,
}

impl<AB: AutodiffBackend> ParamMapper<AB> for Replace<'_, AB::InnerBackend> {
    fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<AB, D>) -> Tensor<AB, D> {
        let Some(value) = self.updated.remove(&info.name) else { return tensor };
        let length = info.shape.iter().product::<usize>();
        let value = match self.own.as_ref().and_then(|own| own.get(&info.name)) {
            Some(range) if range.len() < length => {
                let whole: Tensor<AB::InnerBackend, 1> = tensor.clone().inner().reshape([-1]);
                whole.slice_assign([range.clone()], value)
            }
            _ => value,
        };
        Tensor::from_inner(value.reshape(tensor.shape())).require_grad()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use burn_flex::Flex;
    use needle_model::SanConfig;

    fn gradients(values: &[(&str, &[f32])]) -> Gradients<Flex> {
        let tensor = |v: &[f32]| Tensor::from_data(TensorData::new(v.to_vec(), [v.len()]), &Default::default());
        values.iter().map(|(name, v)| ((*name).to_owned(), tensor(v))).collect()
    }

    #[test]
    fn every_parameter_is_in_exactly_one_group() {
        let config = SanConfig::preset("tiny").unwrap();
        let model = San::<Flex>::new(&config, 0, &Default::default()).unwrap();
        let all = params::list(&model);
        let in_muon: Vec<&str> =
            all.iter().filter(|p| group(p, Group::Muon) == Group::Muon).map(|p| p.name.as_str()).collect();
        let attentions = config.num_encoder_layers + 2 * config.num_decoder_layers;
        assert_eq!(in_muon.len(), 4 * attentions);
        assert!(in_muon.iter().all(|n| n.contains("attn.") && n.ends_with("_proj.weight")));
        let sizes = |g| {
            all.iter().filter(|p| group(p, Group::Muon) == g).map(|p| p.shape.iter().product::<usize>()).sum::<usize>()
        };
        assert_eq!(sizes(Group::Muon) + sizes(Group::AdamW), config.num_params_with_head());
    }

    #[test]
    fn the_clip_is_over_all_parameters_together() {
        let (clipped, norm) = clip_global_norm(gradients(&[("a", &[3.0, 0.0]), ("b", &[4.0])]), 1.0);
        assert!((norm - 5.0).abs() < 1e-6);
        let values: Vec<f32> = clipped.values().flat_map(|t| t.to_data().to_vec::<f32>().unwrap()).collect();
        assert!(values.iter().zip([0.6, 0.0, 0.8]).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
        let (kept, _) = clip_global_norm(gradients(&[("a", &[0.3])]), 1.0);
        assert_eq!(kept["a"].to_data().to_vec::<f32>().unwrap(), [0.3]);
    }

    #[test]
    fn the_embedding_moves_as_far_as_its_share_of_the_rate_and_all_else_as_before() {
        type Ad = burn::backend::Autodiff<Flex>;
        let model = San::<Ad>::new(&SanConfig::preset("tiny").unwrap(), 0, &Default::default()).unwrap();
        let ones =
            |info: &ParamInfo| Tensor::<Flex, 1>::ones([info.shape.iter().product::<usize>()], &Default::default());
        let moved = |scale| {
            let config = OptimConfig { embedding_lr_scale: scale, ..OptimConfig::default() };
            let gradients = params::list(&model).iter().map(|info| (info.name.clone(), ones(info))).collect();
            let rates = LearningRates { muon: 0.1, adamw: 0.1 };
            let after = Optimizer::<Flex>::new(&config, 0).step(model.clone(), gradients, rates);
            let distance = |a: Tensor<Ad, 1>, b: Tensor<Ad, 1>| (a - b).abs().max().into_scalar();
            let flat = |model: &San<Ad>| model.embed_tokens.weight.val().reshape([-1]);
            let norm = |model: &San<Ad>| model.decoder.norm.weight.val();
            (distance(flat(&after), flat(&model)), distance(norm(&after), norm(&model)))
        };
        let ((whole, norm), (tenth, norm_then), (none, _)) = (moved(1.0), moved(0.1), moved(0.0));
        assert!((whole - 0.1).abs() < 1e-4 && (tenth - 0.01).abs() < 1e-5, "{whole} {tenth}");
        assert_eq!((none, norm), (0.0, norm_then));
    }
}
