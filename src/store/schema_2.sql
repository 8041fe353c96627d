-- What became of the Morse sets of the analysis before, as JSON; NULL where there was none that could be compared with.
ALTER TABLE analyses ADD COLUMN since TEXT;
