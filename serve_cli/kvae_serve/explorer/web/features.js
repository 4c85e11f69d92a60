// Features of the rows of a table: the layout of the numbers that the networks of a table model see.

/** Return the features of each column: `first` to `end` for its value, and `flag` for whether it is missing, or null. */
export function featureBlocks(columns) {
  const sizes = columns.map(({ kind, form, classes, atoms }) =>
    kind === "categorical" ? classes.length : form === "classes" ? atoms.length : 0);
  const numbers = sizes.filter((size) => size === 0).length;
  let [number, oneHot, flag] = [0, numbers, sizes.reduce((sum, size) => sum + size, numbers)];
  return columns.map(({ kind, missing }, i) => {
    const first = sizes[i] ? oneHot : number;
    if (sizes[i]) oneHot += sizes[i];
    else number++;
    return { first, end: first + (sizes[i] || 1), flag: kind === "numeric" && missing !== undefined ? flag++ : null };
  });
}

/** Return the number of features of a row. */
export function numFeatures(columns) {
  return Math.max(...featureBlocks(columns).map(({ end, flag }) => (flag === null ? end : flag + 1)));
}
