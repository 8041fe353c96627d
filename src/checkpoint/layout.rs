//! Where a tensor's elements lie in the file, and reading them in logical (row-major) order, block by block.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use super::dtype::{Decoded, Dtype, Values};
use super::error::Fault;

/// Bytes handed out at once: small enough to stay in the second-level cache while it is hashed, sketched and summed.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// Logical bytes of a non-contiguous tensor that are gathered at once.
const SLAB_BYTES: usize = 4 << 20;

/// A piece of storage is read whole and picked from in memory when it is at most this long …
const SPAN_BYTES: u64 = 256 << 10;
/// … and at least one of so many of its elements is wanted.
const SPAN_SPARSITY: u64 = 64;

/// Where a tensor's elements lie.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Layout {
    /// Position of the first element in the file, in bytes.
    pub(super) offset: u64,
    /// Distance of neighbours along each axis, in elements; `None` where the elements lie in row-major order without
    /// gaps.
    pub(super) strides: Option<Vec<u64>>,
}

/// Buffers that are reused from tensor to tensor: at most `BLOCK_BYTES` for tensors that lie in order, a few megabytes
/// for those that do not.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Raw bytes of the block; `u64` for the alignment.
    raw: Vec<u64>,
    span: Vec<u8>,
    decoded: Decoded,
}

/// A run of a tensor's elements, in row-major order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block<'a> {
    /// Position of the first of them in the tensor.
    pub start: usize,
    /// Their bytes, little endian.
    pub bytes: &'a [u8],
    /// The same as numbers.
    pub values: Values<'a>,
}

/// Hands the elements to `visit` in row-major order, until there are no more or it breaks off.
///
/// Every block but the last holds the same number of elements, a multiple of 32,768.
pub(super) fn read(
    file: &File,
    dtype: Dtype,
    shape: &[usize],
    layout: &Layout,
    buffer: &mut Buffer,
    mut visit: impl FnMut(Block<'_>) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let size = dtype.size();
    let elements: usize = shape.iter().product();
    if elements == 0 {
        return Ok(());
    }
    let Buffer { raw, span, decoded } = buffer;
    let Some(strides) = &layout.strides else {
        raw.resize(raw.len().max(BLOCK_BYTES / 8), 0);
        let per_block = BLOCK_BYTES / size;
        for start in (0..elements).step_by(per_block) {
            let count = per_block.min(elements - start);
            let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(raw)[..count * size];
            file.read_exact_at(bytes, layout.offset + (start * size) as u64)?;
            let values = decoded.decode(dtype, bytes);
            if visit(Block { start, bytes, values }).is_break() {
                return Err(Fault::Cancelled);
            }
        }
        return Ok(());
    };
    raw.resize(raw.len().max((SLAB_BYTES + BLOCK_BYTES) / 8), 0);
    let raw: &mut [u8] = bytemuck::cast_slice_mut(raw);
    let mut start = 0;
    // Slabs end anywhere, blocks do not: what does not fill a block waits at the front for the next slab.
    let mut waiting = 0;
    for slab in slabs(shape, strides, SLAB_BYTES / size) {
        gather(file, layout.offset, size, &slab, span, &mut raw[waiting..])?;
        let filled = waiting + slab.elements() * size;
        let last = start + filled / size == elements;
        let ready = if last { filled } else { filled - filled % BLOCK_BYTES };
        for bytes in raw[..ready].chunks(BLOCK_BYTES) {
            let values = decoded.decode(dtype, bytes);
            if visit(Block { start, bytes, values }).is_break() {
                return Err(Fault::Cancelled);
            }
            start += bytes.len() / size;
        }
        raw.copy_within(ready..filled, 0);
        waiting = filled - ready;
    }
    Ok(())
}

/// One axis of a slab.
#[derive(Clone, Copy, Debug)]
struct Axis {
    length: usize,
    /// Distance of neighbours in the storage, in elements.
    stride: u64,
    /// Distance of neighbours in row-major order, in elements.
    logical: usize,
}

/// A box of a tensor's elements that is one run in row-major order.
#[derive(Debug)]
struct Slab {
    /// Distance of its first element from the tensor's first in the storage, in elements.
    base: u64,
    axes: Vec<Axis>,
}

impl Slab {
    fn elements(&self) -> usize {
        self.axes.iter().map(|axis| axis.length).product()
    }
}

/// Cuts a tensor into slabs of at most `capacity` elements, in row-major order. No axis is empty.
fn slabs(shape: &[usize], strides: &[u64], capacity: usize) -> impl Iterator<Item = Slab> {
    // The axis that is cut is the first one behind which everything fits.
    let mut inner = 1;
    let mut cut = shape.len();
    while cut > 0 && inner * shape[cut - 1] <= capacity {
        cut -= 1;
        inner *= shape[cut];
    }
    let (axis, length) = match cut.checked_sub(1) {
        Some(axis) => (axis, capacity / inner),
        // It fits as a whole: "cut" the first axis into one piece (a scalar has no axis).
        None => (0, shape.first().copied().unwrap_or(1)),
    };
    let pieces = shape.get(axis).map_or(1, |&whole| whole.div_ceil(length));
    let prefixes: usize = shape[..axis.min(shape.len())].iter().product();
    (0..prefixes * pieces).map(move |i| {
        let (mut prefix, first) = (i / pieces, i % pieces * length);
        let mut base = strides.get(axis).map_or(0, |&stride| stride * first as u64);
        for outer in (0..axis).rev() {
            base += strides[outer] * (prefix % shape[outer]) as u64;
            prefix /= shape[outer];
        }
        let mut logical = 1;
        let mut axes: Vec<Axis> = (axis..shape.len())
            .rev()
            .map(|a| {
                let length = if a == axis { length.min(shape[a] - first) } else { shape[a] };
                logical *= length;
                Axis { length, stride: strides[a], logical: logical / length }
            })
            .collect();
        axes.retain(|axis| axis.length > 1);
        Slab { base, axes }
    })
}

/// Reads the elements of `slab` into the front of `into`, in row-major order.
fn gather(
    file: &File,
    offset: u64,
    size: usize,
    slab: &Slab,
    span: &mut Vec<u8>,
    into: &mut [u8],
) -> Result<(), Fault> {
    // Axes in storage order; the inner ones are read together, as one span, as long as that pays.
    let mut axes = slab.axes.clone();
    axes.sort_by_key(|axis| axis.stride);
    let mut inner = 0;
    let mut wanted = 1;
    let mut length = 1;
    for axis in &axes {
        let longer = length + (axis.length as u64 - 1) * axis.stride;
        wanted *= axis.length as u64;
        if longer * size as u64 > SPAN_BYTES || longer > wanted * SPAN_SPARSITY {
            break;
        }
        length = longer;
        inner += 1;
    }
    let (inner, outer) = axes.split_at(inner);
    span.resize(length as usize * size, 0);
    each_index(outer, |storage, logical| {
        file.read_exact_at(span, offset + (slab.base + storage) * size as u64)?;
        each_index(inner, |from, to| {
            let (from, to) = (from as usize * size, (logical + to) * size);
            into[to..to + size].copy_from_slice(&span[from..from + size]);
            Ok(())
        })
    })
}

/// Calls `visit` with the distance in the storage and in row-major order of each element of a box from its first.
fn each_index(axes: &[Axis], mut visit: impl FnMut(u64, usize) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut index = vec![0; axes.len()];
    let (mut storage, mut logical) = (0, 0);
    loop {
        visit(storage, logical)?;
        // Count up, the axis of smallest stride first.
        let mut carried = true;
        for (i, axis) in index.iter_mut().zip(axes) {
            *i += 1;
            storage += axis.stride;
            logical += axis.logical;
            if *i < axis.length {
                carried = false;
                break;
            }
            storage -= axis.stride * axis.length as u64;
            logical -= axis.logical * axis.length;
            *i = 0;
        }
        if carried {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// A file of `count` numbers 0, 1, 2, … as i32.
    fn counting(count: u32) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&(0..count).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
        file
    }

    /// All elements, and the lengths of the blocks they came in.
    fn read_all(file: &File, shape: &[usize], layout: &Layout) -> (Vec<u64>, Vec<usize>) {
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        read(file, Dtype::I32, shape, layout, &mut Buffer::default(), |block| {
            assert_eq!(block.start, all.len());
            let Values::F64(values) = block.values else { unreachable!("integers are f64") };
            all.extend(values.iter().map(|&value| value as u64));
            lengths.push(values.len());
            ControlFlow::Continue(())
        })
        .unwrap();
        (all, lengths)
    }

    /// The elements' positions in the storage, one by one.
    fn positions(shape: &[usize], strides: &[u64]) -> Vec<u64> {
        shape.iter().zip(strides).fold(vec![0], |outer, (&length, &stride)| {
            outer.iter().flat_map(|base| (0..length as u64).map(move |i| base + i * stride)).collect()
        })
    }

    proptest! {
        #[test]
        fn any_view_is_read_in_row_major_order(
            axes in prop::collection::vec((1_usize..7, 0_u64..40), 0..5),
            offset in 0_u64..50,
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
            let file = counting(1000);
            let layout = Layout { offset: 4 * offset, strides: Some(strides.clone()) };
            let wanted: Vec<_> = positions(&shape, &strides).iter().map(|at| at + offset).collect();
            prop_assert_eq!(read_all(&file, &shape, &layout).0, wanted);
        }
    }

    #[test]
    fn large_views_come_in_whole_blocks() {
        let (rows, columns) = (1500, 1100);
        let file = counting(2 * rows * columns);
        let (rows, columns) = (u64::from(rows), u64::from(columns));
        let views = [
            // Transposed; every second column; channels last; rows far apart, in reverse order of axes.
            (vec![1100, 1500], vec![1, columns]),
            (vec![1500, 1100], vec![2 * columns, 2]),
            (vec![10, 100, 1500], vec![100 * rows, 1, 100]),
            (vec![1, 700_000, 2], vec![0, 1, 1_500_000]),
        ];
        for (shape, strides) in views {
            let (elements, lengths) =
                read_all(&file, &shape, &Layout { offset: 0, strides: Some(strides.clone()) });
            assert_eq!(elements, positions(&shape, &strides), "{shape:?} {strides:?}");
            let (_last, whole) = lengths.split_last().unwrap();
            assert!(whole.iter().all(|&length| length == BLOCK_BYTES / 4), "{lengths:?}");
        }
    }
}
