/** What differs between a person's terminal and a pipe: colour, progress, and a reader that leaves. */

// https://no-color.org: set and not empty.
const colour = process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';

function paint(code: number): (text: string) => string {
  return text => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
}

export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);

/** When the reader has seen enough (`| head`), the command ends without a word; a full disk is an error. */
export function watchOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit();
      if (stream === process.stdout)
        process.stderr.write(`switchyard: cannot write to standard output: ${error.message}\n`);
      process.exit(1);
    });
  }
}

/** Pads on the right by what a person sees. */
export function column(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - text.length));
}

/** Before a line on standard error that stays. */
export function clearProgress(): void {
  if (process.stderr.isTTY === true) process.stderr.write('\r\u001b[K');
}

/** Progress on standard error, once the work has taken a second; only on a terminal. */
export class Progress {
  readonly #start = performance.now();
  readonly #total: number | undefined;
  readonly #what: string;
  #shown = false;

  /** @param total undefined: without end */
  constructor(total: number | undefined, what: string) {
    this.#total = total;
    this.#what = what;
  }

  readonly update = (done: number): void => {
    if (process.stderr.isTTY !== true || performance.now() - this.#start < 1000) return;
    const share = this.#total === undefined ? '' : ` of ${this.#total}`;
    const percent = this.#total ? ` (${Math.floor((100 * done) / this.#total)} %)` : '';
    process.stderr.write(`\r${done}${share} ${this.#what}${percent}\u001b[K`);
    this.#shown = true;
  };

  end(): void {
    if (this.#shown) process.stderr.write('\r\u001b[K');
  }
}
