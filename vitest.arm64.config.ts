/** See scripts/test-arm64.sh: the workers, which vitest forks from `process.execPath`, run in an emulated Node. */
import { defineConfig } from 'vitest/config';

const node = process.env.SWITCHYARD_ARM64_NODE;
if (node === undefined) throw new Error('run this by npm run test:arm64');
process.execPath = node;

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/qemu/setup.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // Emulated JavaScript takes about twelve times as long.
    testTimeout: 1_200_000,
  },
});
