/** Fails a run in which a test is skipped that suite.ts does not name, or in which something it names is not there. */
import { relative } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';
import { LEFT_OUT, SKIPPED } from './suite.ts';

const TESTS = new URL('..', import.meta.url).pathname;

export class NothingSkipped implements Reporter {
  readonly #whole: boolean;

  /** @param whole the whole suite is run */
  constructor(whole: boolean) {
    this.#whole = whole;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped: string[] = [];
    for (const module of modules) {
      const file = relative(TESTS, module.moduleId);
      for (const test of module.children.allTests('skipped')) skipped.push(`${file} > ${test.fullName}`);
    }
    const problems = skipped
      .filter(name => !SKIPPED.some(({ what }) => name.startsWith(what)))
      .map(name => `skipped, and not named in test/qemu/suite.ts: ${name}`);
    if (this.#whole) {
      for (const { what } of SKIPPED) {
        if (!skipped.some(name => name.startsWith(what))) {
          problems.push(`named in test/qemu/suite.ts, but it is not skipped: ${what}`);
        }
      }
    }
    for (const { what, reason } of [...LEFT_OUT, ...SKIPPED]) console.log(`not run: ${what}: ${reason}`);
    if (problems.length === 0) return;
    console.error(problems.join('\n'));
    process.exitCode = 1;
  }
}
