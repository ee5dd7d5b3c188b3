//! Object-safe counterparts of Burn's module visitor and mapper.
//!
//! The methods of Burn's traits are generic over the rank of a tensor, which rules out `dyn`. Here, the rank is passed
//! as a value and the parameter as `dyn Any`. The adapters below translate in both directions.

use std::any::Any;

use burn::{
    module::{Flag, ModuleMapper, ModuleVisitor, Param},
    tensor::{Bool, Int, Tensor},
};

/// The element kind of a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Float,
    Int,
    Bool,
}

/// Object-safe [`ModuleVisitor`]; `param` is a `Param<Tensor<rank, kind>>`.
pub(super) trait DynVisitor {
    fn param(&mut self, kind: Kind, rank: usize, param: &dyn Any);
    fn flag(&mut self, flag: &Param<Flag>);
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// Object-safe [`ModuleMapper`]; `param` and the returned parameter are `Param<Tensor<rank, kind>>`.
pub(super) trait DynMapper {
    fn param(&mut self, kind: Kind, rank: usize, param: Box<dyn Any>) -> Box<dyn Any>;
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag>;
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// A typed visitor that forwards to an erased one.
pub(super) struct ToDynVisitor<'a>(pub &'a mut dyn DynVisitor);
/// A typed mapper that forwards to an erased one.
pub(super) struct ToDynMapper<'a>(pub &'a mut dyn DynMapper);
/// An erased visitor that forwards to a typed one.
pub(super) struct FromDynVisitor<'a, V>(pub &'a mut V);
/// An erased mapper that forwards to a typed one.
pub(super) struct FromDynMapper<'a, M>(pub &'a mut M);

const MAX_RANK: usize = 8;
/// The adapters agree on (kind, rank), so every downcast finds the type it expects.
const SAME_TYPE: &str = "kind and rank name the parameter's type";

/// Runs `$body` with the constant `$d` equal to `$rank`. Larger ranks do not compile; see `ToDynVisitor`.
macro_rules! by_rank {
    ($rank:expr, $d:ident => $body:expr) => {
        by_rank!(@arms $rank, $d => $body; 0 1 2 3 4 5 6 7 8)
    };
    (@arms $rank:expr, $d:ident => $body:expr; $($n:literal)*) => {
        match $rank {
            $($n => { const $d: usize = $n; $body })*
            rank => unreachable!("rank {rank} is refused at compile time"),
        }
    };
}

impl ModuleVisitor for ToDynVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        const { assert!(D <= MAX_RANK, "parameters of a Block have at most 8 axes") }
        self.0.param(Kind::Float, D, param);
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        const { assert!(D <= MAX_RANK, "parameters of a Block have at most 8 axes") }
        self.0.param(Kind::Int, D, param);
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        const { assert!(D <= MAX_RANK, "parameters of a Block have at most 8 axes") }
        self.0.param(Kind::Bool, D, param);
    }
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.flag(flag);
    }
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }
    fn exit_module(&mut self, name: &str, container: &str) {
        self.0.exit(name, container);
    }
}

impl ModuleMapper for ToDynMapper<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        *self.0.param(Kind::Float, D, Box::new(param)).downcast().expect(SAME_TYPE)
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        *self.0.param(Kind::Int, D, Box::new(param)).downcast().expect(SAME_TYPE)
    }
    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        *self.0.param(Kind::Bool, D, Box::new(param)).downcast().expect(SAME_TYPE)
    }
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.flag(flag)
    }
    fn enter_module(&mut self, name: &str, container: &str) {
        self.0.enter(name, container);
    }
    fn exit_module(&mut self, name: &str, container: &str) {
        self.0.exit(name, container);
    }
}

impl<V: ModuleVisitor> DynVisitor for FromDynVisitor<'_, V> {
    fn param(&mut self, kind: Kind, rank: usize, param: &dyn Any) {
        by_rank!(rank, D => match kind {
            Kind::Float => self.0.visit_float::<D>(param.downcast_ref().expect(SAME_TYPE)),
            Kind::Int => self.0.visit_int::<D>(param.downcast_ref().expect(SAME_TYPE)),
            Kind::Bool => self.0.visit_bool::<D>(param.downcast_ref().expect(SAME_TYPE)),
        });
    }
    fn flag(&mut self, flag: &Param<Flag>) {
        self.0.visit_flag(flag);
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

impl<M: ModuleMapper> DynMapper for FromDynMapper<'_, M> {
    fn param(&mut self, kind: Kind, rank: usize, param: Box<dyn Any>) -> Box<dyn Any> {
        by_rank!(rank, D => match kind {
            Kind::Float => Box::new(self.0.map_float::<D>(*param.downcast().expect(SAME_TYPE))),
            Kind::Int => Box::new(self.0.map_int::<D>(*param.downcast().expect(SAME_TYPE))),
            Kind::Bool => Box::new(self.0.map_bool::<D>(*param.downcast().expect(SAME_TYPE))),
        })
    }
    fn flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        self.0.map_flag(flag)
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}
