/** Two verifier logs, line by line: ours and the kernel's. */

/** A kernel function's call; its number is the running kernel's own. Helpers' names have the prefix, too, but small numbers. */
const KFUNC = /(\(85\) call [a-z]\w*#)(?:0|\d{4,})\b(.*)$/;

/**
 * What cannot be alike is left out: addresses of maps, numbers of kernel functions, blanks at the end of a line. Where the kernel at level 1 goes back to a
 * branch, it loses the end of the line of the jump, and after some refusals that of the refusal; they are put back.
 */
export function comparableLines(log: string): string[] {
  return log
    .trimEnd()
    .replace(/(.)(processed \d+ insns \(limit)/, '$1\n$2')
    .replace(/^(\d+: \([0-9a-f]{2}\) (?:if|call|may_goto) .*) (\d+: (?:R\d|frame\d|refs=).*)$/gm, '$1\n$2')
    .split('\n')
    .map(line =>
      line
        .replace(KFUNC, (_, call: string, rest: string) => `${call}KFUNC${rest.replace(/^ +/, ' ')}`)
        .replace(
          /(\(18\) r\d+ = )(?:0x[0-9a-f]{9,16}|map\S*)( +; )?/,
          (_, start, state) => `${start}MAP${state === undefined ? '' : ' ; '}`,
        )
        .trimEnd(),
    );
}

export interface LogDifference {
  /** Lines of the longer log. */
  readonly lines: number;
  /** Lines that both have, in the same order. */
  readonly identical: number;
  /** Lines of one log only, with "-" for ours and "+" for the kernel's. */
  readonly different: readonly string[];
}

/** The longest common subsequence, by Myers' greedy algorithm. */
export function compareLines(ours: readonly string[], kernel: readonly string[]): LogDifference {
  const different: string[] = [];
  const trace: Int32Array[] = [];
  const size = ours.length + kernel.length;
  const reach = new Int32Array(2 * size + 3);
  const middle = size + 1;
  for (let edits = 0; edits <= size; edits++) {
    trace.push(reach.slice(middle - edits - 1, middle + edits + 2));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reach[middle + k - 1]! < reach[middle + k + 1]!);
      let x = down ? reach[middle + k + 1]! : reach[middle + k - 1]! + 1;
      while (x < ours.length && x - k < kernel.length && ours[x] === kernel[x - k]) x++;
      reach[middle + k] = x;
      if (x < ours.length || x - k < kernel.length) continue;
      let [i, j] = [ours.length, kernel.length];
      for (let d = edits; d > 0; d--) {
        const before = trace[d]!;
        const at = (diagonal: number): number => before[diagonal + d + 1]!;
        const inserted = i - j === -d || (i - j !== d && at(i - j - 1) < at(i - j + 1));
        // Back along the diagonal to where the edit was made.
        const from = inserted ? at(i - j + 1) : at(i - j - 1) + 1;
        j -= i - from;
        i = from;
        different.push(inserted ? `+${kernel[--j]}` : `-${ours[--i]}`);
      }
      const lines = Math.max(ours.length, kernel.length);
      return { lines, identical: (size - edits) / 2, different: different.reverse() };
    }
  }
  throw new Error('two logs always have a way from one to the other');
}
