//! Conley indices: what the dynamics of a Morse set prove about the invariant set inside.
//!
//! Let F be a map from cells to boxes of cells that encloses a continuous map f, and S a Morse set of F. Then
//! X = S ∪ F(S) and A = F(S) \ S are an *index pair* (X, A): whatever leaves S does so through A, and does not come
//! back from there without leaving X. The map f acts on X/A, and by it on the relative homology H∗(X, A; ℤₚ), a
//! vector space in each degree. This linear map depends on the pair, but its *shift-equivalence* class does not: it
//! is the homological **Conley index** of the largest invariant set in S (A. Szymczak, *The Conley index for discrete
//! semidynamical systems*, 1995; K. Mischaikow and M. Mrozek, *Conley index*, Handbook of Dynamical Systems 2, 2002).
//! Over a field the class is the list of invariant factors without powers of x. If it is not trivial, S holds an
//! invariant set of every such f.
//!
//! How it is computed, and where:
//!
//! 1. [`CubicalSpace`] and [`Image`] are all that is asked of grid and map. From the images of S alone `IndexPair` takes
//!    the cells of A that touch S; no other cells of A matter, since
//!    C(X, A) is spanned by the elementary cubes (T. Kaczynski, K. Mischaikow and M. Mrozek, *Computational Homology*,
//!    2004) that are faces of S but not of A. `CubicalComplex` holds them as bits, with a rank as their number.
//! 2. `Matching` reduces the complex by coreductions to a few cubes with the same homology (S. Harker, K. Mischaikow,
//!    M. Mrozek and V. Nanda, *Discrete Morse theoretic algorithms for computing homology of complexes and maps*,
//!    2014), and `RelativeHomology` finds a basis by Gaussian elimination. Where the homology is zero nothing is left
//!    to be done.
//! 3. Each basis element is lifted to a cycle of cubes, and `Carrier` maps it. A continuous f that F encloses sends an
//!    elementary cube σ into C(σ), the *intersection* of the images of the cells of X around σ. This is a box, so C is an
//!    acyclic carrier, and the chain map that it carries is written down by contracting boxes: no linear algebra, and
//!    only cells around the cycles are looked at.
//! 4. The images are expressed in the basis, and `shift_class` finds the invariant factors.
//!
//! CMGDB lifts cycles to the graph of F instead, whose fibre over σ is the *union* of the images of the cells around
//! σ, and needs every fibre that it meets to be acyclic. Where the images have a cell in common their union is
//! star-shaped, hence acyclic, and both give the same: the chain map carried by C, composed with a diagonal
//! approximation σ ↦ Σ σ′ ⊗ φ(σ″), is a lift to that graph.
//!
//! Where images of neighbouring cells have no cell in common (a map known from few data can be so), there is no
//! continuous map in F as far as these cells tell, and the index is [`Undefined::FibreNotAcyclic`].

mod adaptive;
mod carrier;
mod conley_index;
mod cubical_complex;
mod cubical_space;
mod field;
mod frobenius;
mod images;
mod index_map;
mod key_set;
mod polynomial;
mod reduction;
mod relative;
mod sparse_matrix;
mod uniform;

pub use adaptive::{adaptive_conley_index_of_cells, adaptive_conley_indices};
pub use conley_index::{ConleyIndex, Reading, Undefined};
pub use cubical_space::{CubicalSpace, Escape, Image};
pub use field::PrimeField;
pub use index_map::conley_index;
pub use polynomial::Polynomial;
pub use uniform::{conley_index_of_cells, conley_indices};
