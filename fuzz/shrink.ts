/** Makes a program smaller for as long as the same thing is wrong with it. */

const MAX_ATTEMPTS = 1500;

/**
 * @param text lines of assembly
 * @param stillWrong false, too, for what is no assembly any more
 * @param mayGoOn asked before each question; once it says no, what there is so far is the result
 */
export function shrink(
  text: string,
  stillWrong: (text: string) => boolean,
  mayGoOn: () => boolean = () => true,
): string {
  let lines = text.split('\n');
  let left = MAX_ATTEMPTS;
  const keeps = (candidate: readonly string[]): boolean => {
    if (left > 0 && !mayGoOn()) left = 0;
    return left-- > 0 && stillWrong(candidate.join('\n'));
  };
  for (let again = true; again && left > 0; ) {
    again = false;
    for (let size = Math.max(1, lines.length >> 1); size >= 1; size >>= 1) {
      for (let at = lines.length - size; at >= 0; at -= size) {
        const candidate = [...lines.slice(0, at), ...lines.slice(at + size)];
        if (!keeps(candidate)) continue;
        lines = candidate;
        again = true;
        at = Math.min(at, lines.length);
      }
    }
    // Simpler instructions in place of others.
    for (let at = 0; at < lines.length; at++) {
      for (const [pattern, simpler] of SIMPLER) {
        const line = lines[at]!;
        const changed = line.replace(pattern, simpler);
        if (changed === line || !keeps(lines.with(at, changed))) continue;
        lines = lines.with(at, changed);
        again = true;
      }
    }
  }
  return lines.join('\n');
}

const SIMPLER: readonly (readonly [RegExp, string])[] = [
  [/^(r\d) = \*.*$/, '$1 = 0'],
  [/^if .* goto (\w+)$/, 'goto $1'],
];
