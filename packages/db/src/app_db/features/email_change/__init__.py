"""Changes of address: those that wait for their proof, and the addresses that accounts had before."""
