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
      .filter(name => !SKIPPED.some(({ names }) => names.test(name)))
      .map(name => `skipped, and not named in test/qemu/suite.ts: ${name}`);
    for (const { names, reason } of SKIPPED) {
      const count = skipped.filter(name => names.test(name)).length;
      if (count > 0) console.log(`skipped: ${count} tests: ${reason}`);
      else if (this.#whole) problems.push(`named in test/qemu/suite.ts, but nothing is skipped: ${names}`);
    }
    for (const { file, reason } of LEFT_OUT) console.log(`not run: ${file}: ${reason}`);
    if (problems.length === 0) return;
    console.error(problems.join('\n'));
    process.exitCode = 1;
  }
}
