"""One module a thing to look at; each builds HTML from the API's answers and knows nothing of Streamlit."""
