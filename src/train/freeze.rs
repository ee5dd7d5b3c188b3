//! Frozen parameters.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::Tensor,
};

/// Returns the module with the gradients disabled of all parameters whose path `frozen` accepts.
pub(super) fn frozen_where<M: Module>(module: M, frozen: &dyn Fn(&str) -> bool) -> M {
    module.map(&mut Freeze { path: Vec::new(), frozen })
}

struct Freeze<'a> {
    path: Vec<String>,
    frozen: &'a dyn Fn(&str) -> bool,
}

impl ModuleMapper for Freeze<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if (self.frozen)(&self.path.join(".")) { param.set_require_grad(false) } else { param }
    }
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
}
