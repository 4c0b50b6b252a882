/** Golden files of x86-64, disassembled by iced-x86. */
import { x64Machine } from '../../src/jit/x64/machine.ts';
import { listing } from './disassemble.ts';
import { goldenSuite } from './suites/golden.ts';

goldenSuite(() => x64Machine, new URL('./golden/', import.meta.url), listing);
