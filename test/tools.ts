import { execFileSync } from 'node:child_process';

/**
 * The path of the first of these programs that is installed, for tests that compare with it; undefined when none is, so
 * that the test can be skipped.
 *
 * @throws Error in CI (environment variable CI), where every such test must run.
 */
export function requireTool(...names: string[]): string | undefined {
  for (const name of names) {
    try {
      return execFileSync('which', [name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    } catch {
      // Not this one.
    }
  }
  if (process.env.CI) throw new Error(`none of these tools is installed: ${names.join(', ')}`);
  return undefined;
}

/** The time, ms, that a test may take which takes `ms` at most on a machine of its own: more in an emulated Node (test/qemu). */
export function timeLimit(ms: number): number {
  return process.env.SWITCHYARD_ARM64_NODE ? 20 * ms : ms;
}
