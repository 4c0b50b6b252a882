/**
 * Tells when files have changed and are at rest again.
 *
 * Compilers write in pieces, editors and linkers write beside the file and rename, and a file may be gone in between. Events of the
 * operating system differ in all that between kinds of file systems, and some send none; so the files are looked at ten times a
 * second, and a change counts once two looks in a row found the same.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const POLL_MS = 100;
/** Files in watched directories that are looked at. */
const MAX_FILES = 10_000;

export class FileWatcher {
  readonly #paths: () => readonly string[];
  readonly #onRest: () => void;
  #seen: string;
  /** What was there when a change was last told. */
  #told: string;
  readonly #timer: ReturnType<typeof setInterval>;

  /**
   * @param paths files, and directories with all below but hidden ones; asked for at each look
   * @param onRest called after changes since the watcher was made, once for all that happened together
   */
  constructor(paths: () => readonly string[], onRest: () => void) {
    this.#paths = paths;
    this.#onRest = onRest;
    this.#seen = this.#look();
    this.#told = this.#seen;
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
  }

  /** Equal as long as nothing changes. */
  state(): string {
    return this.#look();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #poll(): void {
    const now = this.#look();
    const rest = now === this.#seen;
    this.#seen = now;
    if (!rest || now === this.#told) return;
    this.#told = now;
    this.#onRest();
  }

  #look(): string {
    const found: string[] = [];
    for (const path of this.#paths()) look(path, found);
    return found.join('\n');
  }
}

/** When the last of these files, or of those in these directories, was written, ms since 1970; -Infinity where there are none. */
export function lastWritten(paths: readonly string[]): number {
  const found: string[] = [];
  for (const path of paths) look(path, found);
  const times = found.map(line => Number(/^.* (\d+) \d+ \d+ \d+$/s.exec(line)?.[1] ?? Number.NEGATIVE_INFINITY) / 1e6);
  return times.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}

/** Notes for each file what changes when it is written. */
function look(path: string, found: string[]): void {
  if (found.length >= MAX_FILES) return;
  try {
    const stat = statSync(path, { bigint: true });
    if (!stat.isDirectory()) {
      found.push(`${path} ${stat.mtimeNs} ${stat.ctimeNs} ${stat.size} ${stat.ino}`);
      return;
    }
    for (const name of readdirSync(path).sort()) if (!name.startsWith('.')) look(join(path, name), found);
  } catch {
    found.push(`${path} gone`);
  }
}
