//! Lists of points of one dimension.

/// Points of one dimension, in one piece of memory.
///
/// ```
/// use doodl3::engine::Points;
///
/// let points = Points::from_rows(2, [[0.0, 1.0], [2.0, 3.0]]);
/// assert_eq!((points.len(), points.row(1)), (2, &[2.0, 3.0][..]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Points {
    dimension: usize,
    coordinates: Vec<f64>,
}

impl Points {
    /// No points yet.
    ///
    /// # Panics
    /// If the dimension is zero.
    pub fn new(dimension: usize) -> Self {
        assert!(dimension > 0, "points have coordinates");
        Self { dimension, coordinates: Vec::new() }
    }

    /// These points.
    ///
    /// # Panics
    /// If a row has not `dimension` numbers.
    pub fn from_rows<R: AsRef<[f64]>>(dimension: usize, rows: impl IntoIterator<Item = R>) -> Self {
        let mut points = Self::new(dimension);
        for row in rows {
            points.push(row.as_ref());
        }
        points
    }

    /// Adds a point.
    ///
    /// # Panics
    /// If it has not `dimension` coordinates.
    pub fn push(&mut self, point: &[f64]) {
        assert_eq!(point.len(), self.dimension, "all points have one dimension");
        self.coordinates.extend_from_slice(point);
    }

    /// Number of coordinates.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.coordinates.len() / self.dimension
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.coordinates.is_empty()
    }

    /// The point of this number.
    pub fn row(&self, number: usize) -> &[f64] {
        &self.coordinates[number * self.dimension..(number + 1) * self.dimension]
    }

    /// The points in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> + Clone {
        self.coordinates.chunks_exact(self.dimension)
    }

    /// One coordinate of all points.
    pub fn column(&self, axis: usize) -> impl Iterator<Item = f64> + Clone {
        self.rows().map(move |row| row[axis])
    }

    /// The points of these numbers.
    #[must_use]
    pub fn select(&self, numbers: &[usize]) -> Self {
        Self::from_rows(self.dimension, numbers.iter().map(|&number| self.row(number)))
    }
}
