//! The Python API, by function and found at run time: the only holder of Python pointers.
//!
//! This room opens `unsafe` again; every block says which rule of SAFETY.md it relies on. What leaves
//! it is safe: [`Gil`] is proof of attachment, [`Obj`] a reference held now, [`Kept`] one kept for
//! later, [`Raised`] says that an exception is set.
#![allow(unsafe_code)]

pub mod class;
pub mod entry;
pub mod error;
pub mod gil;
pub mod interpreter;
pub mod lend;
pub mod locate;
pub mod object;
pub mod runtime;
pub mod table;

pub use class::{
    Args, Class, ClassSpec, Getter, Method, bound, function, functions_into, getter, method,
    next_by,
};
pub use error::{Exception, PyResult, Raised};
pub use gil::{Gil, Home, Waits};
pub use lend::Lent;
pub use object::{BytesBuffer, Kept, Kind, Obj};
