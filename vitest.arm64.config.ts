/** See scripts/test-arm64.sh: the workers, which vitest forks from `process.execPath`, run in an emulated Node. */
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { NothingSkipped } from './test/qemu/reporter.ts';
import { FILES, LEFT_OUT, ROOMS } from './test/qemu/suite.ts';

const node = process.env.SWITCHYARD_ARM64_NODE;
if (node === undefined) throw new Error('run this by npm run test:arm64');
process.execPath = node;
const json = process.env.VITEST_JSON;
const whole = process.env.SWITCHYARD_ARM64_WHOLE === '1';

export default defineConfig({
  test: {
    include: [...ROOMS.map(room => `${room}/**/*.test.ts`), ...FILES].map(path => `test/${path}`),
    exclude: LEFT_OUT.map(({ file }) => `test/${file}`),
    pool: 'forks',
    // Loading the modules anew for each file takes longer than most files' tests.
    isolate: false,
    maxWorkers: availableParallelism(),
    // Emulated JavaScript takes about twelve times as long: it gets more time, and tests that scale get less to do.
    testTimeout: 1_200_000,
    env: { SOAK_SECONDS: '10', SOAK_TRANSACTIONS: '450', PROGRAMS: '200', SWITCHYARD_RINGBUF_RECORDS: '200000' },
    hookTimeout: 600_000,
    teardownTimeout: 60_000,
    reporters: [
      'default',
      new NothingSkipped(whole),
      ...(json === undefined ? [] : [['json', { outputFile: json }] satisfies [string, object]]),
    ],
  },
});
