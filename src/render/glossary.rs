//! The words of a report, a sentence each.

/// Word and meaning, in the order in which a reader meets them.
pub(super) const GLOSSARY: [(&str, &str); 17] = [
    ("Checkpoint", "A file in which the trainer left the model's weights."),
    ("Step", "The trainer's global step; the epoch or the order of arrival where no step is known."),
    (
        "Probe batch",
        "A fixed batch of inputs on which every checkpoint is evaluated, so that losses can be compared.",
    ),
    (
        "Predictions",
        "The model's outputs on the probe batch: two networks that predict the same are the same point here, whatever their weights.",
    ),
    ("Lag", "How many steps lie between a point and the one that follows it in the map."),
    (
        "Map (surrogate)",
        "What was learned of where training goes in one lag, with its own uncertainty: a Gaussian process for each coordinate.",
    ),
    (
        "Trusted",
        "Where the map's uncertainty is small against the spread of the data; elsewhere it is not believed, and hatched.",
    ),
    ("Cell", "The picture is cut into small boxes; what is said holds for whole boxes."),
    (
        "Morse set",
        "A region in which training can come back to where it was, so where it can linger or stay. A small one may be an artefact of the grid.",
    ),
    (
        "Morse graph",
        "The Morse sets, and which can be reached from which: the skeleton of what training can do.",
    ),
    ("Attractor", "A Morse set that the map never leaves: a run that enters stays."),
    (
        "Open set",
        "A Morse set with nothing below it, from which the trusted region can be left: nobody can tell whether it holds.",
    ),
    ("Repeller", "A Morse set to which nothing comes back: training leaves it for good."),
    ("Intermediate set", "A Morse set on the way: training passes it, perhaps slowly."),
    ("Basin", "All places from which every path ends in one attractor, with the confidence that is stated."),
    (
        "Undecided",
        "Places from which several attractors can be reached; a finer grid or more runs shrink them.",
    ),
    (
        "Tile",
        "The cells that are given to one Morse set where each cell is given to the one that organises it: of an attractor, a part of its basin that is never left; of a saddle, the neighbourhood of what separates basins.",
    ),
];
