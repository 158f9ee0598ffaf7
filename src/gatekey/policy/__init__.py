"""Decides what may be certified: values in, a plan or all the reasons for refusal out. No bytes, no SQL, no clock, no cryptography."""
