//! Conley indices: what they are, how they are printed and read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Polynomial;

/// The homological Conley index of an isolated invariant set: the shift-equivalence class of the map that the dynamics
/// induce on the homology of an index pair, in each degree.
///
/// [`fmt::Display`] prints one string per degree, as CMGDB does: `(x-1, 0, 0)`. Several factors in a degree are joined
/// by ` ⊕ `, since the class is that of a direct sum; an index that is not defined is printed `undefined`.
///
/// ```
/// use doodl3::engine::homology::{ConleyIndex, Polynomial};
///
/// let factor = Polynomial { coefficients: vec![-1, 1] };
/// let index = ConleyIndex::Defined { prime: 5, degrees: vec![vec![factor.clone(), factor], vec![], vec![]] };
/// assert_eq!(index.to_string(), "(x-1 ⊕ x-1, 0, 0)");
/// assert_eq!(index.unseparated(), ["x-1x-1", "0", "0"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConleyIndex {
    /// It is known.
    Defined {
        /// The homology has coefficients in the integers modulo this prime.
        prime: u32,
        /// For each degree, from 0 to the dimension of the space, the invariant factors of the index map but for powers
        /// of x: each divides the next, none where the map is nilpotent.
        degrees: Vec<Vec<Polynomial>>,
    },
    /// It is not.
    Undefined {
        /// Why not.
        reason: Undefined,
    },
}

/// Why a Conley index cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undefined {
    /// Images of the set leave the space, or reach cells where the map is not known: the set is not isolated from
    /// what is not known, so that it has no index pair.
    Escapes,
    /// The images of the cells around some vertex, edge, … have no box of cells in common, so that they do not tell how
    /// its image is connected. A finer grid or wider images may help.
    FibreNotAcyclic,
    /// The cells are spread so widely over so fine a grid that their faces cannot be numbered with 64 bits.
    TooLarge,
}

impl fmt::Display for Undefined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Escapes => "images leave the region where the map is known",
            Self::FibreNotAcyclic => {
                "images of neighbouring cells do not overlap well enough; use a finer grid"
            }
            Self::TooLarge => "the set is spread too widely over too fine a grid",
        })
    }
}

impl ConleyIndex {
    /// One string per degree, factors joined by ` ⊕ `; none if the index is undefined.
    pub fn strings(&self) -> Vec<String> {
        self.joined(" ⊕ ")
    }

    /// One string per degree, factors joined by nothing, as CMGDB writes them; none if the index is undefined.
    pub fn unseparated(&self) -> Vec<String> {
        self.joined("")
    }

    fn joined(&self, separator: &str) -> Vec<String> {
        let Self::Defined { degrees, .. } = self else { return Vec::new() };
        let join = |factors: &Vec<Polynomial>| {
            if factors.is_empty() {
                return "0".to_owned();
            }
            factors.iter().map(Polynomial::to_string).collect::<Vec<_>>().join(separator)
        };
        degrees.iter().map(join).collect()
    }

    /// Whether it is the index of the empty set: then the set may hold nothing, and be an artefact of the resolution.
    /// Any other index proves that it holds an invariant set.
    pub fn is_trivial(&self) -> bool {
        matches!(self, Self::Defined { degrees, .. } if degrees.iter().all(Vec::is_empty))
    }

    /// What the index is like.
    pub fn reading(&self) -> Reading {
        let Self::Defined { prime, degrees } = self else { return Reading::Undefined };
        let factors =
            degrees.iter().zip(0..).flat_map(|(all, degree)| all.iter().map(move |one| (degree, one)));
        let turns: Option<Vec<(usize, usize)>> =
            factors.map(|(degree, factor)| Some((degree, regions(degree, factor, *prime)?))).collect();
        match turns.as_deref() {
            Some([]) => Reading::Trivial,
            Some(&[(unstable, 1)]) => Reading::FixedPoint { unstable },
            Some(&[(unstable, regions)]) => Reading::Cycle { regions, unstable },
            Some(&[(unstable, 1), (next, 1)]) if next == unstable + 1 => Reading::Circle { unstable },
            _ => Reading::Other,
        }
    }
}

/// The k of a factor xᵏ − 1, by which k regions are visited in turn, or xᵏ + 1, where unstable directions come back
/// reversed; there are none of these in degree 0.
fn regions(degree: usize, factor: &Polynomial, prime: u32) -> Option<usize> {
    let [constant, between @ .., 1] = factor.coefficients.as_slice() else { return None };
    let is_turn = *constant == -1 || *constant == 1 && (degree > 0 || prime == 2);
    (is_turn && between.iter().all(|&coefficient| coefficient == 0)).then_some(between.len() + 1)
}

impl fmt::Display for ConleyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defined { .. } => write!(f, "({})", self.strings().join(", ")),
            Self::Undefined { .. } => f.write_str("undefined"),
        }
    }
}

/// What a Conley index looks like. The index of a simple invariant set can be that of a richer one too, and whether the
/// set attracts is decided by where its images lie, not here; so these are likenesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The index is not known.
    Undefined,
    /// That of the empty set.
    Trivial,
    /// That of a hyperbolic fixed point (x ∓ 1 in one degree alone).
    FixedPoint {
        /// Number of its unstable directions.
        unstable: usize,
    },
    /// That of a hyperbolic periodic orbit (xᵏ ∓ 1 in one degree alone): regions visited in turn.
    Cycle {
        /// Number of regions, k.
        regions: usize,
        /// Number of unstable directions.
        unstable: usize,
    },
    /// That of an invariant circle (x ∓ 1 in each of two successive degrees).
    Circle {
        /// Number of unstable directions.
        unstable: usize,
    },
    /// Something else.
    Other,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directions = |unstable: usize| match unstable {
            1 => "1 unstable direction".to_owned(),
            _ => format!("{unstable} unstable directions"),
        };
        match *self {
            Self::Undefined => f.write_str("undefined"),
            Self::Trivial => f.write_str("trivial: may hold nothing"),
            Self::FixedPoint { unstable: 0 } => f.write_str("like a stable fixed point"),
            Self::FixedPoint { unstable } => write!(f, "like a saddle with {}", directions(unstable)),
            Self::Cycle { regions, unstable: 0 } => write!(f, "like a stable cycle of {regions} regions"),
            Self::Cycle { regions, unstable } => {
                write!(f, "like a cycle of {regions} regions with {}", directions(unstable))
            }
            Self::Circle { unstable: 0 } => f.write_str("like a stable circle"),
            Self::Circle { unstable } => write!(f, "like a circle with {}", directions(unstable)),
            Self::Other => f.write_str("unlike a fixed point, cycle or circle"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(degrees: &[&[&[i32]]]) -> ConleyIndex {
        let factor = |coefficients: &&[i32]| Polynomial { coefficients: coefficients.to_vec() };
        let degrees = degrees.iter().map(|factors| factors.iter().map(factor).collect()).collect();
        ConleyIndex::Defined { prime: 5, degrees }
    }

    #[test]
    fn readings() {
        let read = |degrees: &[&[&[i32]]]| index(degrees).reading().to_string();
        assert_eq!(read(&[&[], &[]]), "trivial: may hold nothing");
        assert_eq!(read(&[&[&[-1, 1]], &[], &[]]), "like a stable fixed point");
        assert_eq!(read(&[&[], &[&[1, 1]], &[]]), "like a saddle with 1 unstable direction");
        assert_eq!(read(&[&[], &[], &[&[-1, 1]]]), "like a saddle with 2 unstable directions");
        assert_eq!(read(&[&[&[-1, 0, 0, 1]], &[]]), "like a stable cycle of 3 regions");
        assert_eq!(read(&[&[], &[&[1, 0, 1]]]), "like a cycle of 2 regions with 1 unstable direction");
        assert_eq!(read(&[&[&[-1, 1]], &[&[-1, 1]], &[]]), "like a stable circle");
        assert_eq!(read(&[&[], &[&[1, 1, 1]]]), "unlike a fixed point, cycle or circle");
        let undefined = ConleyIndex::Undefined { reason: Undefined::Escapes };
        assert_eq!(undefined.reading(), Reading::Undefined);
        assert_eq!(undefined.to_string(), "undefined");
        assert!(undefined.unseparated().is_empty() && !undefined.is_trivial());
    }
}
