/** The host on Linux: memory from mmap, code in executable memory, threads of the process. */
import { randomBytes } from 'node:crypto';
import { arm64Machine } from '../../jit/arm64/machine.ts';
import type { Machine } from '../../jit/shared/code.ts';
import { x64Machine } from '../../jit/x64/machine.ts';
import { RuntimeState } from '../../memory/layout.ts';
import { RuntimeError } from '../errors.ts';
import type { Host } from '../host.ts';
import { InterpreterBackend } from '../interpreter-backend.ts';
import { createNativeArena } from './arena.ts';
import { CodeMemory } from './code-memory.ts';
import { clockGettime, hardwareCapabilities } from './libc.ts';
import { NativeBackend } from './native-backend.ts';

const MACHINES: Partial<Record<string, () => Machine>> = {
  x64: () => x64Machine,
  arm64: () => arm64Machine(hasLse() ? 'lse' : 'exclusive'),
};

/** Linux, arm64: HWCAP_ATOMICS. */
const HWCAP_ATOMICS = 1n << 8n;
const hasLse = (): boolean => (hardwareCapabilities() & HWCAP_ATOMICS) !== 0n;

/** Stop flags of live runtimes: a process must not wait at its exit for native threads that still run programs. */
const stopFlags = new Set<() => void>();
process.on('exit', () => {
  for (const stop of stopFlags) stop();
});

/** True where programs can be compiled and run natively. */
export function nativeSupported(): boolean {
  return process.platform === 'linux' && MACHINES[process.arch] !== undefined;
}

/**
 * @param arenaSize bytes of address space for contexts, packets, stacks and maps; pages cost memory once touched
 * @param codeSize bytes of address space for machine code
 * @throws RuntimeError `unsupported_platform`, `os_refused`
 */
export function createNativeHost(arenaSize: number, codeSize: number): Host {
  const createMachine = MACHINES[process.arch];
  if (!nativeSupported() || !createMachine) {
    throw new RuntimeError(
      'unsupported_platform',
      `there is no native backend for ${process.platform} on ${process.arch}; use backend "interpreter"`,
      { platform: process.platform, arch: process.arch },
    );
  }
  const machine = createMachine();
  const { arena, close: closeArena } = createNativeArena(arenaSize);
  let memory: CodeMemory;
  try {
    memory = new CodeMemory(codeSize, machine.trapByte);
  } catch (error) {
    closeArena();
    throw error;
  }
  let native: NativeBackend | undefined;
  let stop = () => {};
  return {
    arena,
    now: () => Number(process.hrtime.bigint()),
    clock: clockGettime,
    pidTgid: () => (BigInt(process.pid) << 32n) | BigInt(process.pid),
    seed: () => randomBytes(8).readBigUInt64LE(),
    createBackends: (contexts, routines, services) => {
      stop = () => Atomics.store(arena.i32, (contexts.state + RuntimeState.stop) / 4, 1);
      stopFlags.add(stop);
      native = new NativeBackend(arena, memory, machine, contexts, routines, services);
      return [native, new InterpreterBackend(arena, contexts, routines, services)];
    },
    close: () => {
      stopFlags.delete(stop);
      native?.close();
      memory.close();
      closeArena();
    },
  };
}
