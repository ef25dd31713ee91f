//! Matrix products on strided views of slices.

pub(super) use gemm::Parallelism;

/// A view of a matrix inside a slice: element `(i, j)` is
/// `values[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(values: &'a [f32], row_stride: usize) -> Self {
        Self { values, row_stride, column_stride: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        Self { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// The rows from `row` on.
    pub(super) fn rows_from(self, row: usize) -> Self {
        Self { values: &self.values[row * self.row_stride..], ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || columns == 0
            || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
    }
}

/// `c = keep * c + scale * a b` with `a [m, k]`, `b [k, n]`, where the rows of `c` are `row_stride`
/// elements apart.
///
/// # Safety
/// `c` must be valid for reads and writes of `m` rows of `n` elements at that distance, and nothing
/// else may access them during the call.
///
/// # Panics
/// If a view is smaller than its matrix.
#[expect(clippy::too_many_arguments, reason = "the usual arguments of a matrix product")]
pub(super) unsafe fn product(
    [m, n, k]: [usize; 3],
    c: *mut f32,
    row_stride: usize,
    keep: f32,
    scale: f32,
    a: View<'_>,
    b: View<'_>,
    parallelism: Parallelism,
) {
    assert!(a.holds(m, k) && b.holds(k, n), "a view is smaller than its matrix");
    // SAFETY: the views hold their matrices, and the caller vouches for `c`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            row_stride as isize,
            keep != 0.0,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            keep,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
