//! Visits or replaces all parameters by name, for checkpoints, optimizers and quantization.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::san::San;

/// Name, id and shape of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamInfo {
    /// Name in the published Hugging Face layout.
    pub name: String,
    /// burn's id of the parameter.
    pub id: ParamId,
    /// Shape in memory, linear weights as `[in, out]`.
    pub shape: Vec<usize>,
}

impl ParamInfo {
    /// True for the Q, K, V and O matrices: what Muon trains and INT4 quantizes.
    pub fn is_attention_matrix(&self) -> bool {
        is_attention_matrix(&self.name)
    }

    /// True for the matrices that are `[in, out]` in memory and `[out, in]` on disk.
    pub fn is_linear_weight(&self) -> bool {
        self.shape.len() == 2 && self.name != EMBEDDING
    }
}

pub use needle_runtime::file::names::EMBEDDING;

/// True for the names of Q, K, V and O matrices.
pub fn is_attention_matrix(name: &str) -> bool {
    name.ends_with("_proj.weight")
}

/// The path of the parameter being visited.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    /// The field path is the published name, except that all parameters outside the retrieval head
    /// have the prefix `model.`.
    fn name(&self) -> String {
        let path = self.0.join(".");
        if path.starts_with("retrieval_head.") { path } else { format!("model.{path}") }
    }
}

/// Receives each float parameter, in the order of the model's fields.
pub trait ParamVisitor<B: Backend> {
    /// Called once for each parameter.
    fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>);
}

/// Replaces each float parameter.
pub trait ParamMapper<B: Backend> {
    /// Returns the new value of a parameter; called once for each.
    fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<B, D>) -> Tensor<B, D>;
}

struct Visit<'a, V> {
    path: Path,
    visitor: &'a mut V,
}

impl<B: Backend, V: ParamVisitor<B>> ModuleVisitor<B> for Visit<'_, V> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let info = ParamInfo { name: self.path.name(), id: param.id, shape: tensor.dims().to_vec() };
        self.visitor.visit(info, tensor);
    }
}

struct Map<'a, M> {
    path: Path,
    mapper: &'a mut M,
}

impl<B: Backend, M: ParamMapper<B>> ModuleMapper<B> for Map<'_, M> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, on_record) = param.consume();
        let info = ParamInfo { name: self.path.name(), id, shape: tensor.dims().to_vec() };
        Param::from_mapped_value(id, self.mapper.map(info, tensor), on_record)
    }
}

/// Visits every parameter of `model`.
pub fn visit<B: Backend>(model: &San<B>, visitor: &mut impl ParamVisitor<B>) {
    model.visit(&mut Visit { path: Path::default(), visitor });
}

/// Replaces every parameter of `model`.
pub fn map<B: Backend>(model: San<B>, mapper: &mut impl ParamMapper<B>) -> San<B> {
    model.map(&mut Map { path: Path::default(), mapper })
}

/// `model` with gradients tracked for every parameter. Loading and conversion from an inner backend
/// leave them untracked.
pub fn with_gradients<AB: AutodiffBackend>(model: San<AB>) -> San<AB> {
    struct Track;
    impl<AB: AutodiffBackend> ParamMapper<AB> for Track {
        fn map<const D: usize>(&mut self, _: ParamInfo, tensor: Tensor<AB, D>) -> Tensor<AB, D> {
            tensor.detach().require_grad()
        }
    }
    map(model, &mut Track)
}

/// All parameters of `model`, in order.
pub fn list<B: Backend>(model: &San<B>) -> Vec<ParamInfo> {
    struct List(Vec<ParamInfo>);
    impl<B: Backend> ParamVisitor<B> for List {
        fn visit<const D: usize>(&mut self, info: ParamInfo, _: Tensor<B, D>) {
            self.0.push(info);
        }
    }
    let mut list = List(Vec::new());
    visit(model, &mut list);
    list.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SanConfig;
    use burn_flex::Flex;

    #[test]
    fn names_and_counts_are_those_of_the_published_layout() {
        let config = SanConfig::preset("tiny").unwrap();
        let model = San::<Flex>::new(&config, 0, &Default::default()).unwrap();
        let params = list(&model);
        let names: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
        for name in [
            EMBEDDING,
            "model.encoder.layers.0.input_layernorm.weight",
            "model.encoder.layers.1.self_attn.out_proj.weight",
            "model.encoder.layers.0.self_attn.q_norm.weight",
            "model.encoder.layers.0.attn_gate",
            "model.encoder.final_norm.weight",
            "model.decoder.layers.0.self_attn_gate",
            "model.decoder.layers.1.encoder_attn_layer_norm.weight",
            "model.decoder.layers.1.encoder_attn.k_proj.weight",
            "model.decoder.layers.1.cross_attn_gate",
            "model.decoder.norm.weight",
            "retrieval_head.hidden.weight",
            "retrieval_head.hidden.bias",
            "retrieval_head.proj.weight",
            "retrieval_head.log_temp",
        ] {
            assert!(names.contains(&name), "{name} is not among {names:#?}");
        }
        let total: usize = params.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(total, config.num_params_with_head());
        assert_eq!(params.iter().filter(|p| p.is_attention_matrix()).count(), 4 * (2 + 2 * 2));
    }
}
