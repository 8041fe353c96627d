//! Prints what the examples find.

use doodl3::engine::dynamics::{BoxMap, Existence, MorseDecomposition, OrderRetraction, Tile};
use doodl3::engine::grid::UniformGrid;
use doodl3::engine::homology::conley_indices;
use doodl3::engine::{Control, EngineError, Fate};

/// Morse sets with their Conley indices over ℤ₅, order, basins and tiles.
pub(crate) fn dynamics(
    grid: &UniformGrid,
    map: &BoxMap,
    morse: &MorseDecomposition,
    retraction: &OrderRetraction,
) -> Result<(), EngineError> {
    let indices = conley_indices(grid, map, morse, 5, &Control::default())?;
    println!("{} cells, {} edges, {} Morse sets\n", grid.cells(), map.edges(), morse.sets().len());
    println!("     cells  role           Conley index              basin      tile");
    for (number, (set, tile)) in morse.sets().iter().zip(retraction.tile_sizes()).enumerate() {
        let (certain, _) = morse.fates().basin_sizes(number);
        let (role, index) = (format!("{:?}", set.role), indices[number].to_string());
        println!("{number:3} {:7}  {role:13}  {index:22} {certain:8}  {tile:8}", set.size);
    }
    let edges: Vec<String> = morse.edges().iter().map(|(from, to)| format!("{from} → {to}")).collect();
    println!("\norder: {}", if edges.is_empty() { "none".into() } else { edges.join(", ") });
    let undecided =
        (0..grid.cells()).filter(|&cell| morse.fates().of_vertex(cell) == Fate::Undecided).count();
    println!("undecided cells: {undecided}");
    match retraction.existence() {
        Existence::Found => println!("order retraction: every cell has its tile"),
        _ => println!("order retraction: there is none; {} cells are left over", retraction.uncoloured()),
    }
    Ok(())
}

/// The square between the corners of a two-dimensional domain, a character for each point of a raster: the number of the
/// Morse set to whose tile it belongs, capital letters from ten on, a space for what leaves or has no tile.
pub(crate) fn tiles(grid: &UniformGrid, retraction: &OrderRetraction) {
    let (columns, rows) = (72, 30);
    let at = |axis: usize, share: f64| grid.domain().lower()[axis] + grid.domain().width(axis) * share;
    println!();
    for row in (0..rows).rev() {
        let y = at(1, (f64::from(row) + 0.5) / f64::from(rows));
        let symbol = |column: u32| {
            let cell = grid.cell_at(&[at(0, (f64::from(column) + 0.5) / f64::from(columns)), y])?;
            match retraction.tile(cell) {
                Tile::MorseSet(set) => char::from_digit(set as u32 % 36, 36).map(|c| c.to_ascii_uppercase()),
                Tile::Escape | Tile::None => None,
            }
        };
        println!("{}", (0..columns).map(|column| symbol(column).unwrap_or(' ')).collect::<String>());
    }
}
