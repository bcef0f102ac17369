"""kvpress: what its presses score, in one prefill, and which rows they really keep."""
