//! Arithmetic on numbers that depend on the inputs, such as a batch size: Python's, with whole numbers and reals apart.

use std::cmp::Ordering;

use super::dispatch::Value;

/// The functions of Python that stand in programs for it, and what each is called here.
const FUNCTIONS: [(&str, Function); 25] = [
    ("add", Function::Add),
    ("sub", Function::Subtract),
    ("mul", Function::Multiply),
    ("floordiv", Function::FloorDivide),
    ("truediv", Function::Divide),
    ("mod", Function::Modulo),
    ("pow", Function::Power),
    ("neg", Function::Negate),
    ("pos", Function::Same),
    ("eq", Function::Compare(|order| order == Ordering::Equal)),
    ("ne", Function::Compare(|order| order != Ordering::Equal)),
    ("lt", Function::Compare(|order| order == Ordering::Less)),
    ("le", Function::Compare(Ordering::is_le)),
    ("gt", Function::Compare(|order| order == Ordering::Greater)),
    ("ge", Function::Compare(Ordering::is_ge)),
    ("and_", Function::And),
    ("or_", Function::Or),
    ("trunc", Function::Truncate),
    ("sym_int", Function::Truncate),
    ("sym_sqrt", Function::Root),
    ("sym_float", Function::Real),
    ("sym_not", Function::Not),
    ("sym_max", Function::Maximum),
    ("sym_min", Function::Minimum),
    ("sym_ite", Function::IfThenElse),
];

/// A function of one to three numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    Add,
    Subtract,
    Multiply,
    FloorDivide,
    Divide,
    Modulo,
    Power,
    Negate,
    Same,
    Compare(fn(Ordering) -> bool),
    And,
    Or,
    Truncate,
    Real,
    Root,
    Not,
    Maximum,
    Minimum,
    IfThenElse,
}

impl Function {
    /// The function that `target` names, such as `_operator.add`, `math.trunc` or `torch.sym_max`.
    pub(super) fn find(target: &str) -> Option<Self> {
        let (module, name) = target.rsplit_once('.')?;
        let module_is_known = matches!(module, "_operator" | "operator" | "math" | "torch");
        FUNCTIONS.iter().find(|(known, _)| module_is_known && *known == name).map(|(_, function)| *function)
    }

    /// Its value; `None` where the arguments are none of its own, or the result is no number.
    pub(super) fn apply(self, arguments: &[Value]) -> Option<Value> {
        use Value::{Boolean, Integer, Real};
        Some(match (self, arguments) {
            (Self::IfThenElse, [condition, yes, no]) => {
                if truth(condition)? {
                    yes.clone()
                } else {
                    no.clone()
                }
            }
            (Self::And, [a, b]) => Boolean(truth(a)? && truth(b)?),
            (Self::Or, [a, b]) => Boolean(truth(a)? || truth(b)?),
            (Self::Not, [a]) => Boolean(!truth(a)?),
            (Self::Compare(judge), [a, b]) => Boolean(judge(order(a, b)?)),
            (Self::Maximum, [a, b]) => if order(a, b)? == Ordering::Less { b } else { a }.clone(),
            (Self::Minimum, [a, b]) => if order(a, b)? == Ordering::Greater { b } else { a }.clone(),
            (Self::Same, [a]) => a.clone(),
            (Self::Negate, [Real(a)]) => Real(-a),
            (Self::Negate, [a]) => Integer(whole(a)?.checked_neg()?),
            (Self::Real, [a]) => Real(real(a)?),
            (Self::Root, [a]) => Real(Some(real(a)?).filter(|&a| a >= 0.)?.sqrt()),
            (Self::Truncate, [Real(a)]) => {
                let truncated = a.trunc();
                // 2^63, the first that is too large
                (truncated.abs() < 9_223_372_036_854_775_808.0).then_some(Integer(truncated as i64))?
            }
            (Self::Truncate, [a]) => Integer(whole(a)?),
            (Self::Divide, [a, b]) => Real(real(a)? / Some(real(b)?).filter(|&b| b != 0.)?),
            (function, [a, b]) => match (whole(a), whole(b)) {
                (Some(a), Some(b)) => Integer(function.whole(a, b)?),
                _ => Real(function.real(real(a)?, real(b)?)?),
            },
            _ => return None,
        })
    }

    fn whole(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            // Towards minus infinity, as Python does.
            Self::FloorDivide => {
                let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
                Some(if rest != 0 && (rest < 0) != (b < 0) { quotient - 1 } else { quotient })
            }
            Self::Modulo => {
                let rest = a.checked_rem(b)?;
                Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            }
            Self::Power => a.checked_pow(u32::try_from(b).ok()?),
            _ => None,
        }
    }

    fn real(self, a: f64, b: f64) -> Option<f64> {
        match self {
            Self::Add => Some(a + b),
            Self::Subtract => Some(a - b),
            Self::Multiply => Some(a * b),
            Self::FloorDivide if b != 0. => Some((a / b).floor()),
            Self::Modulo if b != 0. => Some(a - b * (a / b).floor()),
            Self::Power => Some(a.powf(b)),
            _ => None,
        }
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Boolean(truth) => Some((*truth).into()),
        _ => None,
    }
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Real(number) => Some(*number),
        other => whole(other).map(|number| number as f64),
    }
}

/// Whether Python takes it for true; a tensor has to have one element.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Tensor(tensor) if tensor.numel() == 1 => {
            tensor.f_double_value(&[]).ok().map(|value| value != 0.)
        }
        other => real(other).map(|number| number != 0.),
    }
}

/// How two numbers compare; `None` where one is not a number.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => real(a)?.partial_cmp(&real(b)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_divided_as_python_does_and_never_overflow() {
        let whole = |target: &str, a, b| match Function::find(target)?
            .apply(&[Value::Integer(a), Value::Integer(b)])?
        {
            Value::Integer(number) => Some(number),
            other => panic!("{other:?}"),
        };
        assert_eq!(whole("_operator.floordiv", -7, 2), Some(-4));
        assert_eq!(whole("_operator.mod", -7, 2), Some(1));
        assert_eq!(whole("_operator.floordiv", 7, 0), None);
        assert_eq!(whole("_operator.mul", i64::MAX, 2), None);
        assert_eq!(whole("torch.sym_max", 3, 5), Some(5));
        assert_eq!(whole("os.system", 3, 5), None);
    }
}
