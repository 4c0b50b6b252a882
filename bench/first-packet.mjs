// The child of startup.ts: prints milliseconds from its first statement to the first verdict.
const start = performance.now();
const { readFileSync } = await import('node:fs');
const { createRuntime, readCapture } = await import('../dist/index.js');
const runtime = createRuntime();
const router = runtime.load(readFileSync(process.argv[2])).program('router');
const { verdict } = router.run(readCapture(readFileSync(process.argv[3])).packets[0].data);
if (!verdict.startsWith('XDP_')) throw new Error(`unexpected verdict ${verdict}`);
console.log(performance.now() - start);
await runtime.dispose();
